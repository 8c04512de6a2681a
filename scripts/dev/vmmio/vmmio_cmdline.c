/* vmmio_cmdline.c — the platform names its devices only on the kernel's command line,
 *
 *     virtio_mmio.device=<size>@<base>:<irq>[:<id>]
 *
 * and the distribution's kernels are built without the code that reads it. This module does, once, when
 * it is loaded: each becomes a platform device that the virtio_mmio driver takes. It has no exit, so it
 * stays. /proc must be mounted; the kernel's own copy of the command line is not for modules.
 *
 * Built by `ev-cage kernel fetch` against the distribution's headers; lua/ev/vmmio.lua. */
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/ioport.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/string.h>

enum { CMDLINE_MAX = 4096, DEVICES_MAX = 32, SIZE_MAX_BYTES = 1 << 20 };
static const char prefix[] = "virtio_mmio.device=";

/* The text of one parameter, up to its blank. */
static int __init add_device(const char *text, int id)
{
    struct resource res[2] = {};
    struct platform_device *device;
    long long base;
    unsigned int irq;
    char *rest;
    unsigned long long size = memparse(text, &rest);

    if (sscanf(rest, "@%lli:%u", &base, &irq) != 2 || size == 0 || size > SIZE_MAX_BYTES || base <= 0) {
        pr_err("vmmio_cmdline: cannot read device %d of the command line\n", id);
        return -EINVAL;
    }
    res[0].flags = IORESOURCE_MEM;
    res[0].start = base;
    res[0].end = base + size - 1;
    res[1].flags = IORESOURCE_IRQ;
    res[1].start = res[1].end = irq;
    device = platform_device_register_resndata(NULL, "virtio-mmio", id, res, ARRAY_SIZE(res), NULL, 0);
    return PTR_ERR_OR_ZERO(device);
}

static int __init add_all(char *line)
{
    char *word;
    int n = 0, rc = 0;

    while (rc == 0 && (word = strsep(&line, " \t\n")))
        if (strncmp(word, prefix, sizeof(prefix) - 1) == 0) {
            if (n == DEVICES_MAX)
                return -E2BIG;
            rc = add_device(word + sizeof(prefix) - 1, n++);
        }
    return rc;
}

static int __init vmmio_cmdline_init(void)
{
    struct file *file = filp_open("/proc/cmdline", O_RDONLY, 0);
    char *line;
    loff_t at = 0;
    ssize_t n;
    int rc;

    if (IS_ERR(file))
        return PTR_ERR(file);
    line = kzalloc(CMDLINE_MAX + 1, GFP_KERNEL);
    n = line ? kernel_read(file, line, CMDLINE_MAX, &at) : -ENOMEM;
    rc = n < 0 ? (int)n : add_all(line);
    kfree(line);
    filp_close(file, NULL);
    return rc;
}

module_init(vmmio_cmdline_init);
MODULE_DESCRIPTION("virtio-mmio devices of the kernel's command line");
MODULE_AUTHOR("the ev-cage authors");
MODULE_LICENSE("Dual MIT/GPL");
