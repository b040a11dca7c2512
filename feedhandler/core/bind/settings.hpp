// Settings of the arbiter from keyword arguments, by the names they have in C++.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <string>
#include <type_traits>

#include "frame/moldudp64.hpp"
#include "publish/counters.hpp"
#include "sequence/settings.hpp"

namespace fh::bind {

inline sequence::Settings settings_of(const nanobind::kwargs& arguments) {
    sequence::Settings out;
    for (const auto& item : arguments) {
        const auto name = nanobind::cast<std::string>(item.first);
        const nanobind::handle value = item.second;
        const auto take = [&](const char* wanted, auto& field) {
            if (name != wanted) return false;
            field = nanobind::cast<std::remove_reference_t<decltype(field)>>(value);
            return true;
        };
        if (name == "start") {
            const auto start = nanobind::cast<std::string>(value);
            if (start != "live" && start != "beginning") throw nanobind::value_error("start");
            out.start = start == "live" ? sequence::Start::live : sequence::Start::beginning;
            continue;
        }
        const bool known =
            take("lines", out.lines) || take("servers", out.servers) || take("session", out.session) ||
            take("first_sequence", out.first_sequence) || take("line_down_ns", out.line_down_ns) ||
            take("arbitration_ns", out.arbitration_ns) || take("timeout_ns", out.timeout_ns) ||
            take("retries", out.retries) || take("max_outstanding", out.max_outstanding) ||
            take("requests_per_s", out.requests_per_s) || take("hold_messages", out.hold_messages) ||
            take("hold_bytes", out.hold_bytes) || take("max_gap_messages", out.max_gap_messages) ||
            take("snapshot", out.snapshot) || take("first_to_apply_offset", out.first_to_apply_offset);
        if (!known) throw nanobind::type_error(("no such setting: " + name).c_str());
    }
    if (out.lines > max_lines || out.servers > max_servers || out.session.size() > frame::mold_session_bytes)
        throw nanobind::value_error("lines, servers or session out of range");
    return out;
}

}  // namespace fh::bind
