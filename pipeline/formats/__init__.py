"""Label formats: one file each, with `read_<format>` (disk to `Dataset`) and `write_<format>`.

To add a format:

1. Write a module with two functions. The reader takes the file or folder and the folder of images,
   and returns a `Dataset`; it raises `DataError` naming the file and the entry at fault. The writer
   takes the folder to write, the `Dataset`, and whether to copy the images or to link them.

       def read_simple(source: Path, images: Path | None = None) -> Dataset: ...
       def write_simple(root: Path, dataset: Dataset, copy_images: bool = False) -> None: ...

2. Add one line to `FORMATS` in `registry.py`:

       "simple": Format(
           "what it is",
           without_polygons(later("simple", "write_simple")),
           without_image_check(later("simple", "read_simple")),
       ),

   `later` imports the module at the first call. Code outside this package calls
   `registry.register("simple", Format(...))` instead, with its own functions.

The line gives the format to `pipeline export --to simple`, `pipeline import --from simple`, the
list of `--formats`, the fidelity report (each export is read back and compared), and to the tests
that run over every format. Foreign values are checked where they are read: with the types of
`schema.py` for JSON, with the functions of `values.py` for XML and rows of text.
"""
