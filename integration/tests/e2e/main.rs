//! End-to-end tests: the real binaries on real packets between network namespaces, a file for each story.
//!
//! Tests are named after their row of the acceptance table in `integration/README.md`.

mod affinity;
mod agent_restart;
mod bad_input;
mod cni;
mod cni_asked;
mod cni_chain;
mod cni_delegated;
mod cni_gc;
mod cni_others;
mod cni_reboot;
mod cni_steps;
mod config;
mod containerlab;
mod direct_return;
mod dns_servers;
mod dual_stack;
mod fleet;
mod flow_table;
mod guard;
mod host;
mod iperf_servers;
mod ipv6;
mod mtu_gso;
mod no_arp;
mod outside;
mod plain_vtep;
mod policy;
mod redis_servers;
mod reference_plugins;
mod scene;
mod service;
mod services_alike;
mod services_datagrams;
mod services_extensions;
mod services_flow_ttl;
mod services_fragments;
mod services_hairpin;
mod services_icmp;
mod services_mtu;
mod services_node_ports;
mod services_policies;
mod services_ports;
mod services_rejected;
mod services_sctp;
mod services_source_ranges;
mod services_topology;
mod services_up_and_down;
mod source_preserved;
mod tls;
mod vxlan_arrival;
mod web_servers;

use std::process::ExitCode;

use integration::{suite, tests};

#[rustfmt::skip]
#[allow(clippy::too_many_lines, reason = "a list")]
fn main() -> ExitCode {
    suite::run(tests![
        direct_return::a1_overlay_reply_bypasses_both_hosts,
        direct_return::a1_overlay_reply_bypasses_both_hosts_by_tcx,
        direct_return::a1_overlay_reply_bypasses_both_hosts_by_clsact,
        direct_return::a1_datagrams_bypass_both_hosts,
        direct_return::a1_twin_with_dsr_off_the_clients_host_sees_everything,
        direct_return::a1_twin_with_the_arrival_program_detached_the_far_host_sees_requests,
        direct_return::a2_same_node_reply_bypasses_the_host,
        direct_return::a2_same_node_reply_bypasses_the_host_by_clsact,
        direct_return::a2_datagrams_bypass_the_host,
        direct_return::a2_twin_with_dsr_off_the_host_sees_everything,
        source_preserved::a4_backend_sees_the_clients_address_and_port,
        source_preserved::a4_backend_sees_the_clients_address_and_port_of_a_datagram,
        policy::a5_rule_is_shown_as_vfp_shows_it,
        policy::a5_packet_leaves_with_backend_ttl_macs_and_flow_pair,
        reference_plugins::b_bridge_takes_addresses_of_beeline_ipam,
        reference_plugins::b_ptp_takes_addresses_of_beeline_ipam,
        services_flow_ttl::a6_a_flow_is_forgotten_after_its_services_idle_time_and_not_before,
        affinity::a9_a_client_stays_with_one_backend,
        affinity::a9_affinity_ends_with_its_time_and_with_its_switch,
        policy::a10_every_policy_says_is_dsr_and_what_was_measured,
        no_arp::a13_no_arp_on_the_pods_wires,
        services_node_ports::c_a_nodes_own_process_reaches_every_nodes_node_port,
        services_node_ports::c_the_outside_reaches_every_nodes_node_port,
        services_node_ports::c_with_a_local_policy_the_outside_is_answered_by_the_node_it_asks,
        services_node_ports::c_a_node_port_goes_with_its_service,
        services_policies::c_internal_traffic_policy_local_asks_this_node_alone_and_is_rejected_without,
        services_policies::c_traffic_distribution_prefers_the_clients_node_while_it_has_an_endpoint,
        services_topology::c_topology_changes_reset_no_connection_and_lead_new_ones,
        services_policies::c_terminating_endpoints_are_asked_only_when_no_other_is_ready,
        services_policies::c_a_pod_is_answered_at_each_nodes_port_as_that_nodes_policy_has_it,
        services_policies::c_a_trace_says_what_then_happens,
        services_sctp::c_sctp_associations_begin_across_nodes_past_both_hosts,
        services_sctp::c_sctp_associations_begin_on_one_node_and_on_several,
        services_sctp::c_sctp_without_endpoints_is_refused_at_once,
        services_source_ranges::c_load_balancer_source_ranges_let_in_whom_they_name_and_only_there,
        services_rejected::c_without_endpoints_requests_are_refused_at_once,
        services_rejected::c_a_wrong_port_of_a_vip_is_refused_at_once,
        services_rejected::c_clients_of_an_evicted_pod_are_refused_at_once,
        services_hairpin::c_a_pod_reaches_itself_through_its_service,
        services_hairpin::c_a_pod_reaches_itself_and_its_fellows_through_their_service,
        services_alike::c_connections_that_look_alike_live_side_by_side,
        services_alike::c_datagrams_that_look_alike_are_answered_by_whom_they_asked,
        services_datagrams::c_datagrams_from_one_port_find_each_next_server,
        services_datagrams::c_datagrams_that_never_pause_leave_an_endpoint_with_it,
        services_ports::c_each_port_of_a_service_leads_to_its_own_and_stops_when_removed,
        services_ports::c_one_port_by_two_protocols_is_two_and_each_stops_alone,
        services_ports::c_each_endpoint_may_have_a_port_of_its_own,
        services_up_and_down::c_services_come_and_go_and_come_again,
        services_up_and_down::c_a_service_that_changes_its_type_keeps_its_connections,
        services_up_and_down::c_an_endpoint_that_is_not_ready_keeps_its_connections,
        service::a12_systemd_finds_no_fault_with_the_unit,
        tls::a13_tls_session_through_a_vip,

        mtu_gso::mtu_is_right_end_to_end,
        mtu_gso::a_full_size_packet_fills_the_underlay_exactly,
        mtu_gso::iperf_through_the_vip_with_gso,
        mtu_gso::iperf_through_the_vip_with_full_size_packets,
        mtu_gso::iperf_on_one_node,
        mtu_gso::udp_of_full_size_arrives,
        mtu_gso::udp_gso_arrives_cut_into_its_segments,
        mtu_gso::tcpdump_decodes_the_underlay_as_vxlan_without_error,
        plain_vtep::plain_vtep_exchanges_pings_with_pods,
        plain_vtep::plain_vtep_exchanges_tcp_with_pods,
        plain_vtep::plain_vtep_serves_behind_a_vip,
        plain_vtep::plain_vtep_serves_behind_a_node_port_of_the_node_that_asks,
        containerlab::a_containerlab_of_two_nodes_and_a_plain_vtep_comes_up,
        host::a_node_process_reaches_pods_on_every_node,
        host::a_node_process_reaches_vips,
        host::c_everybody_reaches_backends_on_the_hosts_network,
        host::c_a_node_process_may_ask_from_its_underlay_address,
        host::a_pod_reaches_its_node,
        host::a_pod_reaches_other_nodes,
        outside::a_pod_reaches_the_outside_masqueraded,
        outside::what_pods_say_to_each_other_is_not_masqueraded,

        web_servers::c_wrk_fails_no_request_while_web_servers_come_and_go,
        dns_servers::c_dnsperf_loses_no_query_while_dns_servers_come_and_go,
        dns_servers::c_dig_is_answered_by_udp_and_tcp,
        redis_servers::c_redis_benchmark_sees_no_error_while_servers_come_and_go,
        redis_servers::c_connections_to_a_draining_redis_go_on,
        iperf_servers::c_an_iperf_stream_goes_on_while_its_server_drains,

        config::a_change_reaches_the_maps_in_well_under_a_second,
        config::a_backend_that_leaves_gets_no_new_connections,
        config::a_broken_file_keeps_the_last_good_state_and_says_where_it_is_wrong,
        config::a_file_that_vanishes_changes_nothing,
        config::a_file_written_in_place_is_seen_too,

        cni::b_sixty_four_adds_at_once_give_distinct_addresses,
        cni_gc::b_gc_takes_what_no_valid_attachment_owns_in_both_spellings,
        cni_gc::b_gc_takes_back_what_dead_pods_held,
        cni_gc::b_del_check_and_gc_do_without_agent_and_pins,
        cni_gc::b_status_tells_why_no_pod_can_start,
        cni_gc::b_gc_and_status_are_of_1_1_0,
        cni_asked::b_an_address_can_be_asked_for_in_three_ways,
        cni_asked::b_a_mac_can_be_asked_for_and_is_the_pods,
        cni_asked::b_ranges_come_from_the_runtime_and_the_configuration,
        cni_asked::b_mtu_routes_and_dns_are_as_configured,
        cni_asked::b_a_second_interface_has_its_own_way_out,
        cni_chain::b_every_version_has_its_results,
        cni_chain::b_a_previous_result_is_kept_and_merged,
        cni_delegated::b_another_ipam_plugin_is_asked_and_told,
        cni_delegated::b_what_another_ipam_plugin_gave_in_vain_goes_back,
        cni_steps::b_add_killed_at_every_step_leaves_nothing_after_del,
        cni_steps::b_del_killed_at_every_step_leaves_nothing_after_another,
        cni_steps::b_what_killed_calls_left_comes_back_by_itself,
        cni::b_sixty_four_adds_over_a_pool_that_was_exhausted,
        cni::b_check_finds_what_is_missing,
        cni::b_check_finds_a_missing_program_by_tcx,
        cni_others::b_a_late_del_leaves_the_addresss_next_pod_alone,
        cni_others::b_a_record_that_cannot_be_read_keeps_no_del,
        cni_others::b_a_pod_may_have_the_longest_of_names,
        cni_reboot::b_after_a_reboot_del_succeeds_and_every_address_is_free,
        cni_reboot::b_what_an_earlier_boot_left_on_a_disk_is_forgotten,
        cni_reboot::b_what_an_older_beeline_left_is_read_or_refused,
        cni::b_version_tells_what_is_spoken,
        bad_input::b_missing_environment_is_refused,
        bad_input::b_bad_configuration_is_refused,
        bad_input::b_netns_that_is_gone_is_refused,
        bad_input::b_add_without_an_agent_is_refused,
        bad_input::b_exhausted_pool_is_refused,
        bad_input::b_repeated_add_is_refused_without_damage,
        bad_input::b_without_root_is_refused,
        bad_input::b_pins_that_are_gone_are_told,
        bad_input::b_del_succeeds_whatever_is_gone,
        bad_input::an_agent_with_a_bad_file_says_where,
        bad_input::an_agent_that_lacks_something_says_what,

        services_fragments::c_large_requests_arrive_both_ways,
        services_fragments::c_large_requests_arrive_both_ways_by_ipv6,
        services_icmp::c_icmp_port_unreachable_reaches_the_clients_socket,
        services_extensions::c_requests_with_ipv6_extension_headers_are_answered,
        services_mtu::c_a_path_that_narrows_is_told_to_sockets,
        services_mtu::c_a_path_that_narrows_is_told_to_ipv6_sockets,
        services_mtu::c_a_narrow_path_beyond_the_host_is_told_to_sockets,
        services_fragments::c_large_requests_of_each_client_stay_with_one_backend,

        agent_restart::d_agent_killed_and_restarted_under_load_breaks_nothing,
        agent_restart::d_programs_replaced_under_load_break_nothing,
        agent_restart::d_programs_replaced_under_load_break_nothing_by_clsact,
        agent_restart::d_traffic_and_pod_start_go_on_without_an_agent,
        agent_restart::d_an_agent_that_starts_finds_the_change_made_meanwhile,
        agent_restart::d_a_restarted_agent_keeps_what_it_finds_in_place,
        flow_table::d_a_flood_of_new_flows_ends_no_connection,
        guard::d_honest_frames_arrive,
        guard::d_forged_source_address_is_dropped_and_counted,
        guard::d_forged_mac_is_dropped_and_counted,
        guard::d_forging_on_a_flow_that_exists_is_dropped_and_counted,
        guard::d_arp_and_other_non_ip_is_dropped_and_counted,
        guard::d_vlan_tagged_frames_are_dropped_and_counted,
        guard::d_vxlan_made_by_a_pod_is_dropped_and_counted,
        vxlan_arrival::d_honest_vxlan_from_a_peer_arrives,
        vxlan_arrival::d_unknown_vni_is_dropped_and_counted,
        vxlan_arrival::d_vxlan_from_no_peer_is_dropped_and_counted,
        vxlan_arrival::d_forged_inner_source_is_dropped_and_counted,
        vxlan_arrival::d_the_slow_path_refuses_the_same,
        vxlan_arrival::d_vxlan_for_an_address_that_is_not_here_is_dropped_and_counted,

        ipv6::a1_overlay_reply_bypasses_both_hosts_by_ipv6,
        ipv6::a1_overlay_reply_bypasses_both_hosts_by_ipv6_and_clsact,
        ipv6::a1_datagrams_bypass_both_hosts_by_ipv6,
        ipv6::a1_twin_with_dsr_off_the_clients_host_sees_ipv6,
        ipv6::a2_same_node_reply_bypasses_the_host_by_ipv6,
        ipv6::a2_twin_with_dsr_off_the_host_sees_ipv6,
        ipv6::a4_backend_sees_the_clients_ipv6_address_and_port,
        ipv6::a5_rule_is_shown_for_ipv6,
        ipv6::a5_ipv6_packet_leaves_with_backend_hop_limit_macs_and_flow_pair,
        ipv6::a9_an_ipv6_client_stays_with_one_backend,
        ipv6::a10_every_ipv6_policy_says_is_dsr_and_what_was_measured,
        ipv6::a13_no_neighbour_discovery_on_the_pods_wires,
        ipv6::d_honest_ipv6_frames_arrive,
        ipv6::d_forged_ipv6_source_is_dropped_and_counted,
        ipv6::d_forged_mac_of_ipv6_is_dropped_and_counted,
        ipv6::d_forging_on_an_ipv6_flow_is_dropped_and_counted,
        ipv6::d_forged_neighbour_and_router_advertisements_reach_nobody,
        ipv6::d_agent_killed_and_restarted_under_ipv6_load_breaks_nothing,
        ipv6::a_node_process_reaches_ipv6_pods_on_every_node,
        ipv6::a_node_process_reaches_ipv6_vips,
        ipv6::a_pod_reaches_its_node_by_ipv6,
        ipv6::a_pod_reaches_the_ipv6_outside_masqueraded,
        ipv6::what_ipv6_pods_say_to_each_other_is_not_masqueraded,
        ipv6::the_mtu_of_ipv6_is_right_end_to_end,
        ipv6::iperf_by_ipv6_with_gso_and_with_full_size_packets,
        ipv6::udp_of_full_size_arrives_by_ipv6,
        ipv6::udp_gso_arrives_cut_into_its_segments_by_ipv6,
        ipv6::tcpdump_decodes_ipv6_in_vxlan_without_error,
        ipv6::plain_vtep_exchanges_ipv6_with_pods,
        ipv6::pods_of_ipv6_alone_have_nothing_of_ipv4,

        dual_stack::a1_both_families_bypass_both_hosts_at_once,
        dual_stack::a2_both_families_bypass_the_host,
        dual_stack::a4_each_family_keeps_its_own_source,
        dual_stack::b_add_gives_one_interface_with_one_mac_both_addresses_and_del_takes_all,
        dual_stack::pods_and_nodes_reach_each_other_by_either_family,
        dual_stack::a_service_may_be_found_by_one_family_only,
        dual_stack::d_a_restarted_agent_keeps_both_families_in_place,
        dual_stack::d_running_pods_get_their_entries_back_when_the_bpffs_is_emptied,
        dual_stack::d_entries_of_ports_that_are_gone_are_removed,
    ])
}
