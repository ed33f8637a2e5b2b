"""Files in buckets and on web servers: brought to a local copy, and written back.

An address such as `s3://bucket/photos` stands for a folder of the cache, its copy. `addresses` maps
one to the other. `mirror` makes the copy what the bucket holds, `upload` makes the bucket what the
copy holds, and `calls` does both around a command, which sees local paths alone. fsspec is imported
when the first address is given.
"""
