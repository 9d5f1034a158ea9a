#compdef holdfast
# SPDX-License-Identifier: Apache-2.0

_holdfast_verbs() {
  local -a verbs
  verbs=(
    'status:who is online, since when, last outage'
    'events:what the kernel saw'
    'top:who loses connections most'
    'outages:every loss of the channel and its cause'
    'doctor:look for what keeps this host from its portal'
    'enroll:make this host known to a portal'
    'reset:forget identity and portal'
    'actions:what the portal asked for'
    'scan:look this host over'
    'component:list, start, stop and restart components'
    'release:list, stage and roll back versions'
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
    _arguments '--follow[go on]' '--json[one object a line]' '--pid[owner]:pid:_pids' \
      '--unit[unit]:unit:' '--since[time]:time:' \
      '--kind[kind]:kind:(conn.failed conn.reset_received conn.reset_sent conn.dropped conn.closed proc.exit proc.oom skb.drop telemetry.loss)' ;;
  outages) _arguments '--since[time]:time:' '--json[one object a line]' ;;
  doctor) _arguments '--bundle[write everything into a file]:file:_files' '--json[machine-readable]' ;;
  enroll) _arguments '--portal[address]:url:' '--token[token, - reads it]:token:' '--ca[authority]:file:_files' ;;
  component) _arguments '1:what:(list show start stop restart rollback)' '2:component:(agent)' '--json[machine-readable]' ;;
  release) _arguments '1:what:(list stage rollback)' '2:file:_files' '--json[machine-readable]' ;;
  config) _arguments '1:what:(check show reload)' '2:file:_files' '--json[machine-readable]' ;;
  *) _arguments '--json[machine-readable]' ;;
  esac
}

_holdfast "$@"
