# SPDX-License-Identifier: Apache-2.0
# Completion of holdfast(1) for fish.

set -l verbs status outages events top actions scan enroll reset component release config
set -l none "not __fish_seen_subcommand_from $verbs"
complete -c holdfast -f
complete -c holdfast -l json -d 'machine-readable output'
complete -c holdfast -n $none -l dir -r -a '(__fish_complete_directories)' -d 'development instance'
complete -c holdfast -n $none -l version -d version
complete -c holdfast -n $none -l help -d usage
complete -c holdfast -n $none -a status -d 'who is online, since when, last outage'
complete -c holdfast -n $none -a events -d 'what the kernel saw'
complete -c holdfast -n $none -a top -d 'who resets, drops, fails and dies, live'
complete -c holdfast -n $none -a outages -d 'every loss of the channel and its cause'
complete -c holdfast -n $none -a actions -d 'what the portal asked of this host'
complete -c holdfast -n $none -a scan -d 'what on this host is not as it should be'
complete -c holdfast -n $none -a enroll -d 'make this host known to a portal'
complete -c holdfast -n $none -a reset -d 'forget identity and portal'
complete -c holdfast -n $none -a component -d 'list, start, stop and restart components'
complete -c holdfast -n $none -a config -d 'check, show and reload the configuration'
complete -c holdfast -n '__fish_seen_subcommand_from events' -l follow -d 'go on'
complete -c holdfast -n '__fish_seen_subcommand_from events' -l kind -x -a 'conn.failed conn.reset_received conn.reset_sent conn.dropped conn.closed conn.retransmit proc.exit proc.oom skb.drop telemetry.loss'
complete -c holdfast -n '__fish_seen_subcommand_from events' -l pid -x -a '(__fish_complete_pids)'
complete -c holdfast -n '__fish_seen_subcommand_from events' -l unit -x
complete -c holdfast -n '__fish_seen_subcommand_from events top' -l limit -x
complete -c holdfast -n '__fish_seen_subcommand_from top' -l by -x -a 'process unit peer'
complete -c holdfast -n '__fish_seen_subcommand_from top' -l sort -x -a 'hurt resets_received resets_sent failed dropped packets_dropped exits bad_exits oom_kills unseen last name'
complete -c holdfast -n '__fish_seen_subcommand_from top' -l window -x -a 'all 1m last'
complete -c holdfast -n '__fish_seen_subcommand_from top' -l interval -x
complete -c holdfast -n '__fish_seen_subcommand_from top' -l count -x
complete -c holdfast -n '__fish_seen_subcommand_from events outages' -l since -x
complete -c holdfast -n '__fish_seen_subcommand_from actions' -l running
complete -c holdfast -n '__fish_seen_subcommand_from actions' -l limit -x
complete -c holdfast -n '__fish_seen_subcommand_from scan' -l checks -x -a 'modules bpf executables listeners writable setuid packages baseline'
complete -c holdfast -n '__fish_seen_subcommand_from scan' -l path -r -F
complete -c holdfast -n '__fish_seen_subcommand_from scan' -l accept-baseline
complete -c holdfast -n '__fish_seen_subcommand_from scan' -l local
complete -c holdfast -n '__fish_seen_subcommand_from enroll' -l portal -x
complete -c holdfast -n '__fish_seen_subcommand_from enroll' -l token -x
complete -c holdfast -n '__fish_seen_subcommand_from enroll' -l ca -r -F
complete -c holdfast -n '__fish_seen_subcommand_from enroll' -l token-file -r -F
complete -c holdfast -n '__fish_seen_subcommand_from reset' -l yes -d 'do not ask'
complete -c holdfast -n '__fish_seen_subcommand_from component' -a 'list show start stop restart rollback agent'
complete -c holdfast -n '__fish_seen_subcommand_from config' -a 'check show reload'
complete -c holdfast -n $none -a release -d 'which version runs; install one, go back'
complete -c holdfast -n '__fish_seen_subcommand_from release' -a 'list stage rollback keys agent watchdog'
complete -c holdfast -n '__fish_seen_subcommand_from release' -F
complete -c holdfast -n '__fish_seen_subcommand_from release' -l wait -d 'until it is kept or rolled back'
