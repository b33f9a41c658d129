/* gpu.c: a GPU is found by the kernel's files alone, in a folder that stands in for the root. */
#include "kernels/gpu.h"

#include <stdlib.h>

#include "common/base/file.h"
#include "tests/test.h"

static struct error error;

/* root/path, with the folders it needs. */
static void put(const char *root, const char *path, const char *text)
{
    char *whole = path_join(root, path, &error), *folder = path_join(root, path, &error);
    if (whole && folder) {
        *strrchr(folder, '/') = 0;
        CHECK(directory_create(folder, &error) == 0 && file_write(whole, text, strlen(text), &error) == 0);
    }
    free(whole);
    free(folder);
}

static void put_pci(const char *root, const char *vendor, const char *class)
{
    put(root, "sys/bus/pci/devices/0000:00:1f.2/vendor", "0x8086\n");
    put(root, "sys/bus/pci/devices/0000:00:1f.2/class", "0x030000\n");
    put(root, "sys/bus/pci/devices/0000:17:00.0/vendor", vendor);
    put(root, "sys/bus/pci/devices/0000:17:00.0/class", class);
}

TEST(none)
{
    const char *root = test_folder();
    CHECK(gpu_find(root) == GPU_NONE);
    put_pci(root, "0x1002\n", "0x030000\n");
    put(root, "dev/nvidiactl", "");
    put(root, "dev/nvidia-uvm", "");
    CHECK(gpu_find(root) == GPU_NONE);
    struct error reason;
    error_set(&reason, "as it was");
    CHECK(!gpu_explain(GPU_NONE, &reason) && strcmp(reason.text, "as it was") == 0);
}

/* NVIDIA makes network and sound devices, too. */
TEST(by_vendor_and_class)
{
    static const struct {
        const char *vendor, *class;
        enum gpu gpu;
    } cases[] = {{"0x10de\n", "0x030000\n", GPU_WITHOUT_DRIVER}, {"0x10de\n", "0x030200\n", GPU_WITHOUT_DRIVER},
                 {"0x10de\n", "0x040300\n", GPU_NONE},           {"0x10de\n", "", GPU_NONE},
                 {"0x15b3\n", "0x030200\n", GPU_NONE},           {"", "0x030200\n", GPU_NONE}};
    const char *root = test_folder();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put_pci(root, cases[i].vendor, cases[i].class);
        CHECK(gpu_find(root) == cases[i].gpu);
    }
}

/* What says most is asked first. */
TEST(with_driver_and_device_file)
{
    const char *root = test_folder();
    put_pci(root, "0x10de\n", "0x030200\n");
    put(root, "proc/driver/nvidia/gpus/0000:17:00.0/information", "Model: NVIDIA H200\n");
    CHECK(gpu_find(root) == GPU_WITHHELD);
    put(root, "dev/nvidia3", "");
    CHECK(gpu_find(root) == GPU_HERE);
}

TEST(lent_by_windows)
{
    const char *root = test_folder();
    put(root, "usr/lib/wsl/lib/libd3d12.so", "");
    CHECK(gpu_find(root) == GPU_NONE);
    put(root, "usr/lib/wsl/lib/libcuda.so.1", "");
    CHECK(gpu_find(root) == GPU_HERE);
}

TEST(explained)
{
    static const struct {
        enum gpu gpu;
        const char *text;
    } cases[] = {{GPU_WITHOUT_DRIVER, "modprobe nvidia"},
                 {GPU_WITHHELD, "--gpus all"},
                 {GPU_HERE, "an NVIDIA GPU is in this machine and is not used: the library is not there"}};
    struct error reason;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        error_set(&reason, "the library is not there");
        CHECK(gpu_explain(cases[i].gpu, &reason));
        CHECK_TEXT(reason.text, "an NVIDIA GPU is in this machine and is not used: ");
        CHECK_TEXT(reason.text, cases[i].text);
    }
}

TEST_MAIN
