#include "kernels/gpu.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>

/* True when the folder root/path has a name that `wanted` accepts. */
static bool any_name(const char *root, const char *path, bool (*wanted)(const char *folder, const char *name))
{
    char folder[4096];
    if ((size_t)snprintf(folder, sizeof folder, "%s/%s", root, path) >= sizeof folder)
        return false;
    DIR *open = opendir(folder);
    bool found = false;
    for (const struct dirent *entry; open && !found && (entry = readdir(open));)
        found = entry->d_name[0] != '.' && wanted(folder, entry->d_name);
    if (open)
        closedir(open);
    return found;
}

/* /dev/nvidia0 and so on; a container that has one of several has any of them. */
static bool is_device_file(const char *folder, const char *name)
{
    (void)folder;
    return strncmp(name, "nvidia", 6) == 0 && isdigit((unsigned char)name[6]);
}

/* Windows lends its driver to the Linux that it runs; no PCI device and no device file show it. */
static bool is_windows_driver(const char *folder, const char *name)
{
    (void)folder;
    return strncmp(name, "libcuda.so", 10) == 0;
}

static bool is_anything(const char *folder, const char *name)
{
    (void)folder, (void)name;
    return true;
}

/* The file folder/name/attribute begins so. */
static bool begins(const char *folder, const char *name, const char *attribute, const char *text)
{
    char path[8192], content[16] = {0};
    if ((size_t)snprintf(path, sizeof path, "%s/%s/%s", folder, name, attribute) >= sizeof path)
        return false;
    FILE *file = fopen(path, "re");
    const bool read = file && fgets(content, sizeof content, file);
    if (file)
        fclose(file);
    return read && strncmp(content, text, strlen(text)) == 0;
}

/* A display or 3D controller of NVIDIA. */
static bool is_pci_gpu(const char *folder, const char *name)
{
    return begins(folder, name, "vendor", "0x10de") && begins(folder, name, "class", "0x03");
}

enum gpu gpu_find(const char *root)
{
    if (any_name(root, "dev", is_device_file) || any_name(root, "usr/lib/wsl/lib", is_windows_driver))
        return GPU_HERE;
    if (any_name(root, "proc/driver/nvidia/gpus", is_anything))
        return GPU_WITHHELD;
    return any_name(root, "sys/bus/pci/devices", is_pci_gpu) ? GPU_WITHOUT_DRIVER : GPU_NONE;
}

bool gpu_explain(enum gpu gpu, struct error *reason)
{
    switch (gpu) {
    case GPU_NONE: return false;
    case GPU_WITHOUT_DRIVER:
        error_set(reason, "its driver is not loaded: install NVIDIA's driver, or run: modprobe nvidia");
        break;
    case GPU_WITHHELD:
        error_set(reason,
                  "it has no device file (/dev/nvidia0) here: start a container with --gpus all, a Slurm job "
                  "with --gpus 1; elsewhere nvidia-smi, run as root, makes the file");
        break;
    case GPU_HERE: break;
    }
    error_prefix(reason, "an NVIDIA GPU is in this machine and is not used");
    return true;
}
