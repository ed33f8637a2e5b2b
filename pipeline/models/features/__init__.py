"""Image features: backbones, patches, nearest neighbours, coresets."""
