#!/bin/sh
# Builds the disk of the guest into the folder $1, with the packages $2 (separated by commas) and the init script $3. Leaves there
# root.ext4, vmlinuz and versions.
set -eu
folder=$1 packages=$2 init=$3
root=$folder/root

# The package of the module builds it for the kernel whose headers are installed beside it, whatever the host runs.
mmdebstrap --variant=minbase --components=main,contrib --include="$packages" \
  --aptopt='Acquire::Retries "3"' --dpkgopt=force-unsafe-io \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  trixie "$root" http://deb.debian.org/debian >&2

kernel=$(basename "$root"/usr/lib/modules/*)
modules=$root/usr/lib/modules/$kernel
module=$(find "$modules" -name 'zfs.ko*')
if [ -z "$module" ]; then
  echo "dkms built no zfs module for $kernel:" >&2
  find "$root/var/lib/dkms/zfs" -name make.log -exec tail -n 30 {} + >&2
  exit 1
fi

# A guest without acceleration unpacks slowly.
find "$modules/updates" -name '*.ko.xz' -exec unxz {} +
for name in virtio_blk virtio_net net_failover failover virtio-rng; do
  find "$modules" -name "$name.ko.xz" -exec unxz {} +
done
chroot "$root" depmod "$kernel"

install -m 0755 "$init" "$root/usr/sbin/backstay-init"
# OpenZFS would take half of the memory for its cache, and programs under test want some.
echo 'options zfs zfs_arc_max=268435456' >"$root/etc/modprobe.d/backstay.conf"

# Both guests are one image: they have one key of the host, and one of root's, known to each other.
cat >"$root/etc/hosts" <<'HOSTS'
127.0.0.1 localhost
10.99.0.1 one
10.99.0.2 two
HOSTS
cat >"$root/etc/ssh/sshd_config" <<'SSHD'
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
UseDNS no
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
SSHD
mkdir -p -m 0700 "$root/root/.ssh"
rm -f "$root"/etc/ssh/ssh_host_*
ssh-keygen -q -t ed25519 -N '' -C guest -f "$root/etc/ssh/ssh_host_ed25519_key"
ssh-keygen -q -t ed25519 -N '' -C root -f "$root/root/.ssh/id_ed25519"
cp "$root/root/.ssh/id_ed25519.pub" "$root/root/.ssh/authorized_keys"
printf 'one,two,10.99.0.1,10.99.0.2 %s\n' "$(cut -d' ' -f1,2 "$root/etc/ssh/ssh_host_ed25519_key.pub")" \
  >"$root/root/.ssh/known_hosts"
# What is cheap to compute without hardware for it; and nobody is there to be asked.
cat >"$root/root/.ssh/config" <<'SSH'
KexAlgorithms curve25519-sha256
BatchMode yes
SSH

{
  echo "kernel $kernel"
  for package in zfs-dkms zfsutils-linux openssh-server; do
    echo "$package $(chroot "$root" dpkg-query -f '${Version}' -W "$package")"
  done
} >"$folder/versions"
cp "$root/boot/vmlinuz-$kernel" "$folder/vmlinuz"

# What built the module, and is of no use in the guest.
rm -rf "$root"/boot/* "$root"/usr/src/* "$root"/usr/lib/gcc/*/*/cc1* "$root"/usr/libexec/gcc "$root"/usr/lib/linux-kbuild-* \
  "$root"/var/lib/dkms "$root"/var/cache/apt "$root"/var/lib/apt/lists "$root"/usr/share/doc "$root"/usr/share/man

truncate -s 6G "$folder/root.ext4"
mkfs.ext4 -q -F -E lazy_itable_init=1,nodiscard -d "$root" "$folder/root.ext4"
rm -rf "$root"
