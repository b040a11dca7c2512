// What the hops of sampled packets took, for Python.
#pragma once

#include <nanobind/nanobind.h>

#include "latency/hops.hpp"

namespace fh::bind {

// {"samples", "backwards", "kinds": {kind of stamp: samples}, "hops": {hop: Histogram}}
nanobind::dict hops_dict(const latency::Hops& hops);

}  // namespace fh::bind
