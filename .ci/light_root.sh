#!/bin/sh
# Copies what Debian packages installed into the root of an image: sh .ci/light_root.sh ROOT PACKAGE...
#
# The image then has these packages and nothing else: no package manager, no Perl. Their entries are kept where
# scanners for known vulnerabilities look for them in images without a package manager, and so are their licences.
set -eu
root=$1
shift
mkdir -p "$root/var/lib/dpkg/status.d"
dpkg -L base-files > /tmp/listed
for package; do
    dpkg -L "$package" >> /tmp/listed
    dpkg-query --status "$package" > "$root/var/lib/dpkg/status.d/$package"
done
sort -u /tmp/listed \
    | grep -vE '^/usr/share/(doc/.*[^t]$|man|info|locale|lintian|bug|perl5)|/(gconv|include|ensurepip|idlelib)/|\.a$' \
    | while read -r path; do if [ -e "$path" ] || [ -L "$path" ]; then printf '%s\n' "$path"; fi; done \
    | tar --create --no-recursion --files-from - --file - | tar --extract --file - --directory "$root"
cp -a /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
printf 'root:x:0:0:root:/root:/usr/sbin/nologin\napptell:x:10001:10001::/home/apptell:/bin/sh\n' > "$root/etc/passwd"
printf 'root:x:0:\napptell:x:10001:\n' > "$root/etc/group"
install -d -o 10001 -g 10001 "$root/home/apptell" "$root/data"
install -d -m 1777 "$root/tmp"
ldconfig -r "$root"
