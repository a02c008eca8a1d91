#!/bin/bash
# Inside fresh namespaces (machine.py): lay a writable layer over the cached Debian,
# make it the root, and become what is asked for.
#
#   enter.sh LOWER LAYER BIND[:BIND...] boot|run COMMAND...
#
# Nothing of the host is writable from inside but the layer, the folders in BIND and
# the network: /proc/sys and /sys are read-only.
set -eu
lower=$1 layer=$2 binds=$3 mode=$4
shift 4

mount --make-rprivate /
mkdir -p "$layer/upper" "$layer/work" "$layer/root"
root=$layer/root
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$layer/upper,workdir=$layer/work" "$root"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount -t tmpfs -o mode=755,nosuid dev "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
for name in null zero full random urandom tty; do
    : >"$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for number in 0 1 2; do
    names=(stdin stdout stderr)
    ln -s "/proc/self/fd/$number" "$root/dev/${names[number]}"
done
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
IFS=:
for bind in $binds; do
    mkdir -p "$root$bind"
    mount --rbind "$bind" "$root$bind"
done
unset IFS
if [ "$mode" = boot ]; then
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
    mount -t tmpfs -o mode=755,nosuid,nodev run "$root/run"
fi
cd "$root"
mkdir -p .host
pivot_root . .host
umount -l /.host
if [ "$mode" = boot ]; then
    # As container managers do it: systemd passes credentials on through shared mounts.
    mount --make-rshared /
    exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
        /lib/systemd/systemd --system --log-target=journal --show-status=0
fi
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root \
    DEBIAN_FRONTEND=noninteractive "$@"
