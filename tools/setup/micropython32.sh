#!/usr/bin/env bash
# Sets up a MicroPython 1.25 whose words have 32 bits, as build/mp32/micropython: Debian trixie's package for i386 with the libraries that it
# wants, unpacked below build/ and started through its own loader. Nothing is installed, and the machine's apt configuration stays.
#
# Ends with 3 and one sentence where it can't be had: no apt, no Debian mirror among its sources, or a kernel without 32-bit programs.
set -euo pipefail
cd "$(dirname "$0")/../.."
place=build/mp32
packages="micropython libc6 libffi8 libgcc-s1 libmbedcrypto16 libmbedtls21 libmbedx509-7"
key="trixie 2 $PWD"

if [ "$(cat $place/.stamp 2> /dev/null)" = "$key" ]; then
    exit 0
fi

without() {
    printf 'test-32: left out, %s\n' "$*"
    exit 3
}

[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || without "the interpreter is a program for Linux on x86"
command -v apt-get > /dev/null || without "this machine has no apt-get to fetch it with"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -f $keyring ] || without "this machine has no keys of Debian's archive"
# The mirror that this machine uses for Debian; not the one for security updates, which has another layout.
mirror=$(apt-get indextargets --format '$(CREATED_BY) $(COMPONENT) $(RELEASE) $(REPO_URI)' 2> /dev/null \
    | awk '$1 == "Packages" && $2 == "main" && $3 !~ /security/ && $4 ~ /\/debian\/?$/ { print $4; exit }')
[ -n "$mirror" ] || without "no Debian mirror is among the sources of apt"

rm -rf $place
mkdir -p $place/apt/{lists/partial,cache/archives/partial,none} $place/debs $place/tree
apt=$PWD/$place/apt
printf 'deb [arch=i386 signed-by=%s] %s trixie main\n' "$keyring" "$mirror" > "$apt/sources.list"
: > "$apt/status"
cat > "$apt/apt.conf" << END
Dir::Etc::SourceList "$apt/sources.list";
Dir::Etc::SourceParts "$apt/none";
Dir::State "$apt";
Dir::State::Lists "$apt/lists";
Dir::State::Status "$apt/status";
Dir::Cache "$apt/cache";
APT::Architecture "i386";
APT::Architectures { "i386"; };
APT::Sandbox::User "root";
Acquire::Languages "none";
END
export APT_CONFIG="$apt/apt.conf"
log=$PWD/$place/setup.log
{
    apt-get update -q && cd $place/debs && for name in $packages; do apt-get download -q "$name:i386"; done
} > "$log" 2>&1 || without "its packages can't be fetched ($place/setup.log)"
cd "${apt%/apt}"
for package in debs/*.deb; do
    dpkg -x "$package" tree
done
cat > micropython << 'END'
#!/bin/sh
usr=$(dirname "$(readlink -f "$0")")/tree/usr
exec "$usr/lib/ld-linux.so.2" --library-path "$usr/lib/i386-linux-gnu" "$usr/bin/micropython" "$@"
END
chmod +x micropython
[ "$(./micropython -c 'import sys; print(sys.maxsize)' 2>> "$log")" = 2147483647 ] || without "the interpreter does not start here"
rm -rf apt debs
printf '%s' "$key" > .stamp
