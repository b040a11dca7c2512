// One function a stage; each lives in register_<stage>.cpp.
#pragma once

#include <nanobind/nanobind.h>

namespace fh::bind {

void register_frame(nanobind::module_& m);
void register_sequence(nanobind::module_& m);
void register_book(nanobind::module_& m);
void register_publish(nanobind::module_& m);
void register_receive(nanobind::module_& m);
void register_time(nanobind::module_& m);
void register_replay(nanobind::module_& m);
void register_pipeline(nanobind::module_& m);
void register_latency(nanobind::module_& m);
void register_journal(nanobind::module_& m);
void register_simulate(nanobind::module_& m);
void register_snapshot(nanobind::module_& m);

}  // namespace fh::bind
