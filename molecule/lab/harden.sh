#!/bin/sh
# Makes a host what security departments hand out, at each boot: lab.py brings it to hosts of an image with `+hardened`.
set -eu

# IPv6 alone, but for loopback, in addresses and in names.
ip -4 address flush dev eth0
hosts=$(grep -vE '^[0-9.]+\s' /etc/hosts || true)
printf '127.0.0.1 localhost\n%s\n' "$hosts" > /etc/hosts

# No program is run from /tmp, and nobody sees others' processes.
mount -o remount,noexec,nosuid,nodev /tmp
mount -o remount,hidepid=2 /proc

if ! [ -e /etc/sudoers.d/hardened ]; then
    # Files are their owner's alone, unless somebody says otherwise.
    sed -i -E 's/^(UMASK\s+).*/\1077/; s/^(USERGROUPS_ENAB\s+).*/\1no/' /etc/login.defs
    for file in common-session common-session-noninteractive; do
        echo 'session optional pam_umask.so umask=077' >> /etc/pam.d/$file
    done
    for file in profile bash.bashrc zsh/zshenv; do echo 'umask 077' >> /etc/$file; done
    # People speak German, and so do the programs that they start.
    echo 'LANG=de_DE.UTF-8' > /etc/default/locale
    # Olga may do everything too: from a terminal, when she has said her password.
    useradd --create-home --shell /bin/bash olga
    echo 'olga:ein Passwort' | chpasswd
    printf '%s\n' 'Defaults umask=0077, umask_override' 'Defaults:olga requiretty' 'olga ALL=(ALL) ALL' > /etc/sudoers.d/hardened
    chmod 0440 /etc/sudoers.d/hardened
fi
