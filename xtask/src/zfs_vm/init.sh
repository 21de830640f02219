#!/bin/sh
# The first process of the guest. `backstay_guest` (one or two) comes from the kernel's command line. The first guest runs the
# program that is on the exchange disk and reports how it ended; the second one serves SSH until the power goes.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1

# The kernel would panic without its first process, and that is what the runner looks for.
die() {
  echo "backstay: $*"
  exit 1
}

mkdir -p /dev/pts /dev/shm /exchange /scratch
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t tmpfs -o mode=0755 run /run
ln -sfn /proc/self/fd /dev/fd

case $backstay_guest in
  one) address=10.99.0.1 hostid=ba5c0001 bytes='\001\000\134\272' ;;
  two) address=10.99.0.2 hostid=ba5c0002 bytes='\002\000\134\272' ;;
  *) die "no guest is called '$backstay_guest'" ;;
esac
echo "$backstay_guest" >/proc/sys/kernel/hostname
printf "$bytes" >/etc/hostid
ip link set lo up

modprobe spl "spl_hostid=0x$hostid" || die 'there is no spl module'
modprobe -a zfs virtio_blk virtio_net virtio_rng || die 'modules are missing'
/usr/lib/systemd/systemd-udevd --daemon || die 'udev does not start'
[ ! -e /sys/class/net/eth0 ] || {
  ip address add "$address/24" dev eth0
  ip link set eth0 up
}

# What udev would do at the cost of an event for every device there is.
mkdir -p /dev/virtio-ports
for port in /sys/class/virtio-ports/*; do
  ln -s "/dev/${port##*/}" "/dev/virtio-ports/$(cat "$port/name")"
done
status=/dev/virtio-ports/backstay.status

mount -t ext4 -o ro /dev/vda /exchange || die 'there is no exchange disk'
mount -t ext4 -o noinit_itable,discard /dev/vdb /scratch || die 'there is no scratch disk'

# What the program needs, where the host has it.
while IFS= read -r path; do
  mkdir -p "${path%/*}"
  if [ -d "/exchange/files$path" ]; then mkdir -p "$path"; else : >>"$path"; fi
  mount --bind "/exchange/files$path" "$path" || die "cannot place $path"
done </exchange/paths

if [ "$backstay_guest" = two ] || [ -e /sys/class/net/eth0 ]; then
  mkdir -p /run/sshd
  /usr/sbin/sshd || die 'sshd does not start'
fi
if [ "$backstay_guest" = two ]; then
  echo ready >"$status"
  # Its children are what SSH leaves behind.
  while :; do sleep 3600; done
fi
if [ -e /sys/class/net/eth0 ]; then
  exec 3<>/dev/virtio-ports/backstay.host
  echo start-two >&3
  read -r answer <&3
  exec 3>&-
  [ "$answer" = done ] || die "the second guest does not start: $answer"
fi

# The kernel's own limit on open files is lower than that of any distribution.
ulimit -Hn 1048576
mkdir -p /scratch/work
cd /scratch/work || die 'the scratch disk is not writable'
env -u backstay_guest setsid sh /exchange/command </dev/null >/dev/virtio-ports/backstay.output 2>&1
echo "exit $?" >"$status"
echo o >/proc/sysrq-trigger
while :; do sleep 3600; done
