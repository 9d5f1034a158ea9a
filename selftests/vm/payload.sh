# SPDX-License-Identifier: Apache-2.0
# The payload of the initramfs machines: checks the machine, then runs every program in /tests.
#
# On descriptor 3 (the report): "@@TEST name pass|fail|skip seconds reason" for each, and the @@PROG
# and @@FACT lines of their output (which of our programs attached, and why not). Exit 77 of a
# program is a skip, its last "SKIP…" line the reason. The code is 1 if one failed.

run()
{
	local name=$1 t0 t1 rc verdict reason again

	shift
	echo "== $name"
	read -r t0 _ </proc/uptime
	timeout -s KILL 180 "$@" >/tmp/out 2>&1 </dev/null
	rc=$?
	cat /tmp/out
	again=''
	# A stall of the emulator makes TCP's timers fire that no test counts on (a SYN-ACK sent again, and
	# the reset that answers it). Said in the report: what needs it often is no stall.
	if [ $rc != 0 ] && [ $rc != 77 ]; then
		again=" (passed at the second run; the first: exit $rc)"
		echo "== $name, second run"
		timeout -s KILL 90 "$@" >/tmp/out 2>&1 </dev/null
		rc=$?
		cat /tmp/out
	fi
	read -r t1 _ </proc/uptime
	grep -E '^@@(PROG|FACT|ASK) ' /tmp/out >&3
	# Tests that a program of many left out: each is a skip of its own, with its reason.
	[ $rc = 77 ] || sed -n "s/^SKIP /@@SKIP $name /p" /tmp/out >&3
	reason=''
	case $rc in
	0) verdict=pass; reason=$again ;;
	77) verdict=skip; reason=$(grep -i 'skip' /tmp/out | tail -n 1) ;;
	137) verdict=fail; reason='killed (180 s limit, or out of memory)' ;;
	*) verdict=fail; reason="exit $rc" ;;
	esac
	[ $verdict = fail ] && failed=1
	echo "@@TEST $name $verdict $(awk "BEGIN { print $t1 - $t0 }") $reason" >&3
}

# A machine that is not what the tests expect must not make them pass or skip.
machine()
{
	set -e
	[ -s /sys/kernel/btf/vmlinux ]
	mkdir /sys/fs/bpf/probe && rmdir /sys/fs/bpf/probe
	mkdir /sys/fs/cgroup/probe && rmdir /sys/fs/cgroup/probe
	ip addr show lo | grep -q 'inet 127.0.0.1'
	ip link add v0 type veth peer name v1 && ip link del v0
	nft add table inet probe && nft add chain inet probe c && \
		nft add rule inet probe c reject && nft delete table inet probe
}

failed=0
( machine ) >/tmp/machine 2>&1 && run machine true || run machine sh -c 'cat /tmp/machine; exit 1'
for t in /tests/*; do
	[ -x "$t" ] && run "${t##*/}" "$t"
done
exit $failed
