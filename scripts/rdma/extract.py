"""extract.py VMLINUZ OUT: takes the ELF kernel out of a compressed image. QEMU starts an ELF kernel directly, which under
emulation is faster than the image's own decompressor by seconds."""
import lzma
import subprocess
import sys
import zlib

# Compression, what its stream begins with, and how it is read. What follows the stream is not part of it.
FORMS = (
    (b"\xfd7zXZ\x00", lambda data: lzma.LZMADecompressor().decompress(data)),
    (b"\x28\xb5\x2f\xfd", lambda data: pipe(["zstd", "-dcq"], data)),
    (b"\x1f\x8b\x08", lambda data: zlib.decompressobj(31).decompress(data)),
    (b"\x02\x21\x4c\x18", lambda data: pipe(["lz4", "-dcq"], data)),
)


def pipe(command, data):
    return subprocess.run(command, input=data, capture_output=True).stdout


def main(source, target):
    image = open(source, "rb").read()
    for magic, read in FORMS:
        at = image.find(magic)
        while at >= 0:
            try:
                kernel = read(image[at:])
                if kernel[:4] == b"\x7fELF":
                    with open(target, "wb") as out:
                        out.write(kernel)
                    return 0
            except (lzma.LZMAError, zlib.error, OSError):
                pass  # The magic stands there by chance.
            at = image.find(magic, at + 1)
    print(f"extract.py: no ELF kernel in {source}", file=sys.stderr)
    return 1


sys.exit(main(*sys.argv[1:]))
