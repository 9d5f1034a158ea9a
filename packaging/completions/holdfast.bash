# SPDX-License-Identifier: Apache-2.0
# Completion of holdfast(1) for bash.

_holdfast()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local i w verb='' sub='' words=''
	COMPREPLY=()

	for ((i = 1; i < COMP_CWORD; i++)); do
		w=${COMP_WORDS[i]}
		case $w in
		--dir | --portal | --token | --token-file | --ca | --kind | --pid | --unit | --since | --limit | --by | --sort | --window | --interval | --count | --checks | --path) ((i++)) ;;
		-*) ;;
		*) if [[ -z $verb ]]; then verb=$w; elif [[ -z $sub ]]; then sub=$w; fi ;;
		esac
	done

	case $prev in
	--dir | --path)
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		return
		;;
	--ca | --token-file)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	--kind)
		words='conn.failed conn.reset_received conn.reset_sent conn.dropped conn.closed conn.retransmit proc.exit proc.oom skb.drop telemetry.loss'
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
		return
		;;
	--unit)
		mapfile -t COMPREPLY < <(compgen -W "$(systemctl list-units --plain --no-legend --type=service 2>/dev/null |
			awk '{ print $1 }')" -- "$cur")
		return
		;;
	--by)
		mapfile -t COMPREPLY < <(compgen -W 'process unit peer' -- "$cur")
		return
		;;
	--sort)
		words='hurt resets_received resets_sent failed dropped packets_dropped exits bad_exits oom_kills unseen last name'
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
		return
		;;
	--checks)
		mapfile -t COMPREPLY < <(compgen -W 'modules bpf executables listeners writable setuid packages baseline' -- "$cur")
		return
		;;
	--window)
		mapfile -t COMPREPLY < <(compgen -W 'all 1m last' -- "$cur")
		return
		;;
	--portal | --token | --pid | --since | --limit | --interval | --count) return ;;
	esac

	case $verb in
	'') words='status outages events top actions scan enroll reset component release config --dir --json --help --version' ;;
	events) words='--follow --kind --pid --unit --since --limit --json' ;;
	top) words='--by --sort --window --interval --count --limit --json' ;;
	outages) words='--since --json' ;;
	actions) words='--running --limit --json' ;;
	scan) words='--checks --path --accept-baseline --local --json' ;;
	enroll) words='--portal --token --token-file --ca --json' ;;
	reset) words='--yes --json' ;;
	release)
		case $sub in
		'') words='list stage rollback keys' ;;
		stage | keys)
			if [[ $cur == -* ]]; then
				words='--wait --json'
			else
				mapfile -t COMPREPLY < <(compgen -f -- "$cur")
				return
			fi
			;;
		rollback) words='agent watchdog --json' ;;
		*) words='--json' ;;
		esac
		;;
	component)
		case $sub in
		'') words='list show start stop restart rollback' ;;
		list) words='--json' ;;
		*) words='agent --json' ;;
		esac
		;;
	config)
		case $sub in
		'') words='check show reload' ;;
		check)
			mapfile -t COMPREPLY < <(compgen -f -- "$cur")
			return
			;;
		*) words='--json' ;;
		esac
		;;
	*) words='--json' ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -F _holdfast holdfast
