# SPDX-License-Identifier: Apache-2.0
# What the scripts of this directory share: where the cache is, and how to reach a Debian suite
# with apt's own machinery without touching the apt state of this machine.

vm_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
vm_cache=${HOLDFAST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/holdfast}/vm
vm_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

say() { printf '%s\n' "$*" >&2; }

# Two archive URIs: the main one and the security one. The mirror this machine uses is the one it
# can reach, so it is asked first; a machine without a Debian source gets Debian's own host.
vm_mirrors()
{
	local uri main='' security=''

	while read -r uri; do
		case $uri in
		*-security/) security=${security:-${uri%/}} ;;
		*/debian/) main=${main:-${uri%/}} ;;
		esac
	done < <(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' \
		'Origin: Debian' 2>/dev/null)
	main=${main:-http://deb.debian.org/debian}
	echo "$main ${security:-$main-security}"
}

# One "deb" line per archive of a suite. sid has no security archive.
vm_sources()
{
	local suite=$1 main security

	read -r main security < <(vm_mirrors)
	echo "deb [arch=amd64 signed-by=$vm_keyring] $main $suite main"
	case $suite in
	sid | unstable) ;;
	*) echo "deb [arch=amd64 signed-by=$vm_keyring] $security $suite-security main" ;;
	esac
}

# vm_apt SUITE TOOL ARGS…: apt-get or apt-cache on the private root of a suite. The machine's
# apt.conf.d still applies (proxies live there); sources, lists, cache and dpkg status are ours.
vm_apt()
{
	local suite=$1 tool=$2 root

	shift 2
	root=$vm_cache/apt/$suite
	mkdir -p "$root"/{lists/partial,archives/partial,parts}
	[ -e "$root/status" ] || : >"$root/status"
	"$tool" -qq -o APT::Architecture=amd64 -o APT::Architectures::=amd64 \
		-o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=2 \
		-o Acquire::http::Timeout=30 -o Dir::Etc::sourcelist="$root/sources.list" \
		-o Dir::Etc::sourceparts="$root/parts" -o Dir::Etc::preferencesparts="$root/parts" \
		-o Dir::State::lists="$root/lists" -o Dir::State::status="$root/status" \
		-o Dir::Cache="$root" -o Dir::Cache::archives="$root/archives" "$@"
}
