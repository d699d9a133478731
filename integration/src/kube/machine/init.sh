#!/bin/sh
# The first program of a machine in user mode, whose files are its host's. CHECK is what it is for, DRIVER who makes cgroups.
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/shm /dev/pts
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs tmp /mnt
mount -t tmpfs run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
insmod "$(find /usr/lib/uml/modules -name overlay.ko)"
# Kubelet must know how fast the processor is, and this one does not say.
cpus=/sys/devices/system/cpu
mount -t tmpfs cpu $cpus
mkdir -p $cpus/cpu0/cpufreq $cpus/cpu0/topology
echo 0 >$cpus/online
echo 2000000 >$cpus/cpu0/cpufreq/cpuinfo_max_freq
echo 0 >$cpus/cpu0/topology/core_id
echo 0 >$cpus/cpu0/topology/physical_package_id
# The check mounts over /run and other places: those mounts are its own.
[ "$DRIVER" = systemd ] || exec unshare --mount "$CHECK"
mkdir -p /run/systemd/system
cat >/run/systemd/system/check.service <<UNIT
[Unit]
DefaultDependencies=no
[Service]
ExecStart=unshare --mount $CHECK
UNIT
exec /lib/systemd/systemd --system --log-level=crit --show-status=no --unit=check.service
