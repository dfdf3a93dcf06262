"""mkinitrd.py KERNEL OUT: writes the guest's initial file system: busybox, `guest-init` as its init, and the modules that
the guest needs in the order to load them. KERNEL is an unpacked linux-image package. Needs neither kmod nor
initramfs-tools on the host."""
import lzma
import os
import shutil
import subprocess
import sys
import tempfile

WANTED = ["virtio_pci", "virtio_rng", "9p", "9pnet_virtio", "overlay", "dummy", "rdma_rxe", "rdma_ucm", "ib_uverbs"]
# Soft-RoCE computes its checksum through the kernel's crypto interface and says so nowhere.
WANTED_WHERE_MODULES = ["crc32_generic", "crc32c_generic"]


class Modules:
    def __init__(self, kernel):
        releases = os.path.join(kernel, "lib/modules")
        base = os.path.join(releases, os.listdir(releases)[0])
        self.order, self.data, self.paths = [], {}, {}
        for folder, _, files in os.walk(base):
            for file in files:
                name, dot, kind = file.partition(".ko")
                if dot and kind in ("", ".xz", ".zst"):
                    self.paths[name.replace("-", "_")] = os.path.join(folder, file)
        with open(os.path.join(base, "modules.builtin")) as lines:
            self.builtin = {os.path.basename(line.strip())[:-3].replace("-", "_") for line in lines}

    def need(self, module):
        module = module.replace("-", "_")
        if module in self.data or module in self.builtin:
            return
        self.data[module] = data = self.read(self.paths[module])
        for field in fields(data, b"depends="):
            for other in filter(None, field.split(",")):
                self.need(other)
        for field in fields(data, b"softdep="):
            if field.startswith("pre:"):
                for other in field[4:].split("post:")[0].split():
                    if other.replace("-", "_") in self.paths:
                        self.need(other)
        self.order.append(module)

    @staticmethod
    def read(path):
        data = open(path, "rb").read()
        if path.endswith(".xz"):
            return lzma.decompress(data)
        if path.endswith(".zst"):
            return subprocess.run(["zstd", "-dcq"], input=data, capture_output=True, check=True).stdout
        return data


def fields(data, name):
    """What a module's .modinfo section says under a name: strings that end with a zero byte."""
    at = data.find(name)
    while at >= 0:
        if data[at - 1] == 0:
            yield data[at + len(name) : data.index(b"\0", at)].decode()
        at = data.find(name, at + 1)


def main(kernel, out):
    modules = Modules(kernel)
    for module in WANTED_WHERE_MODULES:
        if module in modules.paths:
            modules.need(module)
    for module in WANTED:
        modules.need(module)
    with tempfile.TemporaryDirectory() as root:
        for folder in "bin modules proc sys dev lower ovl host share tmp run".split():
            os.mkdir(os.path.join(root, folder))
        shutil.copy(shutil.which("busybox"), os.path.join(root, "bin/busybox"))
        init = os.path.join(root, "init")
        shutil.copy(os.path.join(os.path.dirname(os.path.abspath(__file__)), "guest-init"), init)
        os.chmod(init, 0o755)
        for module in modules.order:
            with open(os.path.join(root, f"modules/{module}.ko"), "wb") as file:
                file.write(modules.data[module])
        with open(os.path.join(root, "modules/order"), "w") as file:
            file.write("\n".join(modules.order) + "\n")
        pack = 'find . | LC_ALL=C sort | cpio -o -H newc --quiet > "$1"'
        subprocess.run(["sh", "-c", pack, "sh", os.path.abspath(out)], cwd=root, check=True)


main(*sys.argv[1:])
