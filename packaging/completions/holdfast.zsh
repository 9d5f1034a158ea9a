#compdef holdfast
# SPDX-License-Identifier: Apache-2.0

_holdfast_verbs() {
  local -a verbs
  verbs=(
    'status:who is online, since when, last outage'
    'events:what the kernel saw'
    'top:who resets, drops, fails and dies, live'
    'outages:every loss of the channel and its cause'
    'actions:what the portal asked of this host'
    'scan:what on this host is not as it should be'
    'enroll:make this host known to a portal'
    'reset:forget identity and portal'
    'component:list, start, stop and restart components'
    'release:which version runs; install one, go back'
    'config:check, show and reload the configuration'
  )
  _describe verb verbs
}

_holdfast() {
  local curcontext=$curcontext state line
  typeset -A opt_args
  _arguments -C \
    '--dir[development instance]:directory:_files -/' \
    '--json[machine-readable output]' \
    '(- *)--help[usage]' '(- *)--version[version]' \
    '1:verb:_holdfast_verbs' '*::argument:->rest'
  [[ $state == rest ]] || return
  case $line[1] in
  events)
    _arguments '--limit[how many]:number:' '--follow[go on]' '--json[one object a line]' '--pid[owner]:pid:_pids' \
      '--unit[unit]:unit:' '--since[time]:time:' \
      '--kind[kind]:kind:(conn.failed conn.reset_received conn.reset_sent conn.dropped conn.closed conn.retransmit proc.exit proc.oom skb.drop telemetry.loss)' ;;
  top)
    _arguments '--by[who]:who:(process unit peer)' '--window[of what time]:window:(all 1m last)' '--interval[seconds]:seconds:' \
      '--count[how many]:number:' '--limit[rows]:number:' '--json[one object a table]' \
      '--sort[order]:column:(hurt resets_received resets_sent failed dropped packets_dropped exits bad_exits oom_kills unseen last name)' ;;
  actions) _arguments '--running[only those that are not over]' '--limit[how many]:n:' '--json[one object a line]' ;;
  outages) _arguments '--since[time]:time:' '--json[one object a line]' ;;
  scan)
    _arguments '--checks[only these, with commas]:check:_values -s , check modules bpf executables listeners writable setuid packages baseline' \
      '*--path[only below]:path:_files' '--accept-baseline[what is there is right]' '--local[without the watchdog]' '--json[one object]' ;;
  enroll) _arguments '--portal[address]:url:' '--token[token, - reads it]:token:' '--token-file[file with the token]:file:_files' '--ca[authority]:file:_files' ;;
  reset) _arguments '--yes[do not ask]' '--json[machine-readable]' ;;
  component) _arguments '1:what:(list show start stop restart rollback)' '2:component:(agent)' '--json[machine-readable]' ;;
  release) _arguments '1:what:(list stage rollback keys)' '2:file or component:_files' '--wait[until it is kept or rolled back]' '--json[machine-readable]' ;;
  config) _arguments '1:what:(check show reload)' '2:file:_files' '--json[machine-readable]' ;;
  *) _arguments '--json[machine-readable]' ;;
  esac
}

_holdfast "$@"
