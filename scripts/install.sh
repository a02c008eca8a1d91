#!/bin/bash
# Install what one purpose needs, and only what is missing:
#
#   scripts/install.sh run     the programs and the demo
#   scripts/install.sh dev     run, and everything the tests and linters need
#   scripts/install.sh slurm   dev, and a real Slurm for `make test-slurm`
#   scripts/install.sh package dev, and what builds .deb, .rpm and tarball
#   scripts/install.sh all     everything, for `make test-packages` and `make test-faults`
#
# System packages come through apt when this is root or sudo asks no password;
# otherwise they are listed and nothing is changed. Python packages go to .venv.
# Exit status: 0 installed, 1 something is missing that must be installed by hand.
set -euo pipefail
cd "$(dirname "$0")/.."

VENV=${JOBLEDGER_VENV:-.venv}
OLDEST_PYTHON=3.11
say() { printf 'install: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# ------------------------------------------------------- what the system lacks
# need PACKAGE "WHAT IT IS" CHECK...: remember PACKAGE unless CHECK succeeds.
missing=() reasons=()
need() {
    local package=$1 reason=$2
    shift 2
    "$@" >/dev/null 2>&1 && return 0
    missing+=("$package")
    reasons+=("  $package: $reason")
}
has_library() { [[ $(PATH=$PATH:/sbin:/usr/sbin ldconfig -p) == *"$1"* ]]; }
has_program() { PATH=$PATH:/sbin:/usr/sbin command -v "$1"; }
has_server() { compgen -G '/usr/lib/postgresql/*/bin/initdb' || has_program initdb; }
has_slurm_mysql() { compgen -G '/usr/lib/*/slurm*/accounting_storage_mysql.so'; }

# The newest python that is new enough, Debian's own first.
find_python() {
    local candidate
    for candidate in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        "$candidate" -c "import sys; sys.exit(sys.version_info < (${OLDEST_PYTHON/./, }))" || continue
        command -v "$candidate"
        return 0
    done
    return 1
}
has_venv() { "$(find_python)" -c 'import ensurepip, venv'; }

need_run() {
    need python3 "Python $OLDEST_PYTHON or newer" find_python
    need python3-venv "makes the virtual environment" has_venv
    need ca-certificates "lets pip trust the package index" test -e /etc/ssl/certs/ca-certificates.crt
    need libpango-1.0-0 "lays out the text of PDFs" has_library libpango-1.0.so.0
    need libpangoft2-1.0-0 "lays out the text of PDFs" has_library libpangoft2-1.0.so.0
    need libharfbuzz-subset0 "embeds fonts in PDFs" has_library libharfbuzz-subset.so.0
}
need_dev() {
    need_run
    need git "tells the tests which files are the project's" has_program git
    need postgresql "the database server that tests start privately" has_server
    need chromium "the browser that tests drive" has_program chromium
    need libatomic1 "runs the driver between tests and browser" has_library libatomic.so.1
    need poppler-utils "looks at rendered PDFs" has_program pdftoppm
    need systemd "checks the unit files" has_program systemd-analyze
    need prometheus "reads the metrics in tests, checks the alerts" has_program promtool
    need strace "fails system calls in the tests of faults" has_program strace
    need man-db "reads the manual" has_program man
    need mandoc "checks the manual" has_program mandoc
    need openssl "makes certificates for tests" has_program openssl
}
need_package() {
    need_dev
    need debhelper "builds the .deb" has_program dh
    need rpm "builds the .rpm" has_program rpmbuild
    need binutils "strips the libraries" has_program strip
}
need_all() {
    need_slurm
    need_package
    need lintian "checks the .deb" has_program lintian
    need rpmlint "checks the .rpm" has_program rpmlint
    need debootstrap "makes a clean Debian to install into" has_program debootstrap
}
need_slurm() {
    need_dev
    need slurmctld "Slurm's controller" has_program slurmctld
    need slurmd "Slurm's node daemon" has_program slurmd
    need slurmdbd "Slurm's accounting daemon" has_program slurmdbd
    need slurm-client "sbatch, sacct" has_program sacct
    need slurm-wlm-mysql-plugin "slurmdbd's way to its database" has_slurm_mysql
    need mariadb-server "slurmdbd's database" has_program mariadbd
    need munge "authenticates Slurm's daemons" has_program munged
    need slurmrestd "answers what sacct answers" has_program slurmrestd
}

# Debian starts the services it installs; ours are private and started by the
# tests, so a policy file says no while the packages are unpacked.
POLICY=/usr/sbin/policy-rc.d
apt_install() {
    local -a root=()
    [ "$(id -u)" = 0 ] || root=(sudo -n)
    say "installing system packages: ${missing[*]}"
    if [ ! -e "$POLICY" ]; then
        printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$POLICY" >/dev/null
        "${root[@]}" chmod 755 "$POLICY"
        # shellcheck disable=SC2064  # expand now
        trap "${root[*]} rm -f $POLICY" EXIT
    fi
    local log
    log=$(mktemp)
    {
        "${root[@]}" apt-get update -qq &&
            "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
                --no-install-recommends -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "${missing[@]}"
    } >"$log" 2>&1 </dev/null || {
        tail -n 20 "$log" >&2
        die "apt-get could not install: ${missing[*]} (its whole output: $log)"
    }
    rm -f "$log"
}
may_apt() {
    command -v apt-get >/dev/null 2>&1 || return 1
    [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null
}
install_system() {
    missing=() reasons=()
    "need_$1"
    [ ${#missing[@]} -gt 0 ] || return 0
    if may_apt; then
        apt_install
        missing=() reasons=()
        "need_$1"
        [ ${#missing[@]} -eq 0 ] || die "still missing after apt-get install:
$(printf '%s\n' "${reasons[@]}")"
        return 0
    fi
    die "these are missing (Debian's names), and installing them needs root:
$(printf '%s\n' "${reasons[@]}")
  As root run:  apt-get install ${missing[*]}
  then run this again."
}

# --------------------------------------------------------------- Python's part
install_python() {
    local python
    python=$(find_python)
    if [ ! -x "$VENV/bin/python" ] || ! "$VENV/bin/python" -c 'import pip' 2>/dev/null; then
        say "making the virtual environment $VENV with $python"
        "$python" -m venv --clear "$VENV"
    fi
    # --group came with pip 25.1; Debian 12 has 23.0.
    "$VENV/bin/python" -m pip install --quiet --upgrade --disable-pip-version-check 'pip>=25.1'
    local -a what=(-e '.[all]')
    [ "$1" = run ] || what+=(--group dev)
    say "installing Python packages (a minute or two the first time)"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check "${what[@]}"
}

main() {
    case ${1:-} in
    run | dev | slurm | package | all) ;;
    *) die "say what for: run, dev, slurm, package or all" ;;
    esac
    install_system "$1"
    install_python "$1"
    # Make compares these with pyproject.toml: nothing is done twice.
    local -a done=(run)
    case $1 in
    dev) done+=(dev) ;;
    slurm) done+=(dev slurm) ;;
    package) done+=(dev package) ;;
    all) done+=(dev slurm package all) ;;
    esac
    touch "${done[@]/#/$VENV/.installed-}"
}
main "$@"
