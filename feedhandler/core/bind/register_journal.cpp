// The journal for Python: packets from the ring into segments, segments looked at, and a packet ring's writer
// for tests.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <system_error>
#include <tuple>

#include "bind/journal_image.hpp"
#include "bind/register.hpp"
#include "bind/replay_input.hpp"
#include "journal/files.hpp"
#include "journal/journal.hpp"
#include "journal/segment.hpp"
#include "journal/survey.hpp"
#include "publish/packet_ring.hpp"
#include "receive/feed.hpp"
#include "record/modify_dialect.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace fh::bind {
namespace {

using journal::Journal;

// std::system_error as OSError with its number and path.
template <class Call>
void with_os_errors(Call call) {
    try {
        const nb::gil_scoped_release unlocked;
        call();
        return;
    } catch (const std::system_error& error) {
        errno = error.code().value();
        const std::string what = error.what();
        PyErr_SetFromErrnoWithFilename(PyExc_OSError, what.substr(0, what.rfind(": ")).c_str());
    }
    throw nb::python_error();
}

nb::dict counters_dict(const journal::JournalCounters& counters) {
    nb::dict out;
    out["packets"] = counters.packets;
    out["bytes"] = counters.bytes;
    out["lost_packets"] = counters.lost_packets;
    out["segments"] = counters.segments;
    return out;
}

// What the journal of a channel says of itself; None when the channel has none.
std::optional<nb::dict> journal_status(const std::string& directory) {
    try {
        const auto file = publish::Mapping::open(directory + "/journal");
        const auto* page = reinterpret_cast<const journal::JournalPage*>(file.data());
        if (file.size() != sizeof *page || page->magic.load() != journal::journal_magic) return std::nullopt;
        nb::dict out;
        out["state"] = journal::journal_state_names[page->state.load() & 3u];
        out["pid"] = page->pid.load();
        const nb::dict counters = counters_dict(journal::get(*page));
        for (const auto& [key, value] : counters) out[key] = value;
        out["failures"] = page->failures.load();
        return out;
    } catch (const publish::ChannelError&) {
        return std::nullopt;
    }
}

std::tuple<std::size_t, std::uint64_t, std::int64_t, std::int64_t> segment_extent(const nb::object& data) {
    const Buffer buffer(data);
    journal::Extent extent;
    {
        const nb::gil_scoped_release unlocked;
        extent = journal::extent_of(buffer.bytes());
    }
    return {extent.bytes, extent.packets, extent.first_ns, extent.last_ns};
}

// The daemon's half, for tests and benchmarks: a folder with `packets` and `journal` as a channel has them.
class PacketRing {
  public:
    PacketRing(const std::string& directory, std::uint64_t bytes, std::uint64_t epoch,
               const std::vector<receive::LineSettings>& lines,
               const std::vector<std::pair<std::string, std::uint16_t>>& servers)
        : files_(directory, bytes, epoch, receive::origins_of(lines, to_servers(servers))) {
        files_.publish();
    }
    void put(std::uint16_t line, const nb::bytes& payload, std::int64_t ts_recv_ns, std::uint64_t times) {
        const Datagram datagram{reinterpret_cast<const std::uint8_t*>(payload.c_str()),
                                static_cast<std::uint32_t>(payload.size()), line, TimestampKind::kernel,
                                ts_recv_ns};
        const nb::gil_scoped_release unlocked;
        for (std::uint64_t i = 0; i < times; ++i) files_.ring().put(datagram);
    }
    std::uint64_t packets() { return files_.ring().packets(); }

  private:
    static std::vector<receive::ServerSettings> to_servers(
        const std::vector<std::pair<std::string, std::uint16_t>>& servers) {
        std::vector<receive::ServerSettings> out;
        for (const auto& [address, port] : servers) out.push_back({address, port});
        return out;
    }
    journal::JournalFiles files_;
};

std::span<const std::uint8_t> span_of(const nb::bytes& bytes) {
    return {reinterpret_cast<const std::uint8_t*>(bytes.c_str()), bytes.size()};
}

nb::list sessions_seen(const journal::Survey& survey) {
    nb::list out;
    for (const journal::SessionSeen& seen : survey.sessions()) {
        nb::dict entry;
        entry["session"] = nb::bytes(seen.session.data(), seen.session.size());
        entry["packets"] = seen.packets;
        entry["messages"] = seen.messages;
        entry["bytes"] = seen.bytes;
        entry["first"] = seen.first;
        entry["next"] = seen.next;
        entry["first_ns"] = seen.first_ns;
        entry["last_ns"] = seen.last_ns;
        entry["ended"] = seen.ended;
        out.append(entry);
    }
    return out;
}

// What a restart reads of a journal.
void register_restart(nb::module_& m) {
    using journal::Survey;
    nb::class_<Survey>(m, "JournalSurvey", "What sessions a stretch of a journal holds, from headers alone.")
        .def(nb::init<>())
        .def("begin_segment", &Survey::begin_segment, "The next bytes begin a segment.")
        .def(
            "read",
            [](Survey& self, const nb::bytes& data) {
                const auto bytes = span_of(data);
                const nb::gil_scoped_release unlocked;
                self.read(bytes);
            },
            "data"_a, "The next bytes. Raises ValueError when they are no segment of a journal.")
        .def("sessions", &sessions_seen,
             "A dict each: session, packets, messages (with copies), bytes, first, next, first_ns, last_ns, "
             "ended.");
    nb::class_<JournalImage>(m, "JournalImage", "Books as the packets of a journal tell them.")
        .def(
            "__init__",
            [](JournalImage* self, const nb::bytes& session_bytes, std::int64_t midnight_ns) {
                const std::string session(session_bytes.c_str(), session_bytes.size());
                const nb::gil_scoped_release unlocked;
                new (self)
                    JournalImage(std::make_unique<journal::Image>(session, book::BookLimits{}, midnight_ns));
            },
            "session"_a, "midnight_ns"_a)
        .def(
            "begin_segment", [](JournalImage& self) { self.image().begin_segment(); },
            "The next bytes begin a segment.")
        .def(
            "read",
            [](JournalImage& self, const nb::bytes& data) {
                const auto bytes = span_of(data);
                const nb::gil_scoped_release unlocked;
                self.image().read(bytes);
            },
            "data"_a, "The next bytes. Raises ValueError when they are no segment of a journal.")
        .def_prop_ro(
            "next_sequence", [](const JournalImage& self) { return self.image().next_sequence(); },
            "The first number that the books do not contain.")
        .def_prop_ro("orders", [](const JournalImage& self) { return self.image().orders(); })
        .def_prop_ro(
            "last_message",
            [](const JournalImage& self) {
                const auto last = self.image().last_message();
                return nb::bytes(last.data(), last.size());
            },
            "The message with the number before next_sequence.")
        .def_prop_ro(
            "failure", [](const JournalImage& self) { return self.image().failure(); },
            "Why the books must not be used; empty: they may.");
}

}  // namespace

void register_journal(nb::module_& m) {
    register_restart(m);
    m.def("journal_status", &journal_status, "directory"_a,
          "State and counters of the journal of the channel in this folder; None when it has none.");
    m.def("segment_extent", &segment_extent, "data"_a,
          "(bytes, packets, first ns, last ns) of the whole records of a journal's segment; bytes 0: it is "
          "none.");

    nb::class_<Journal>(m, "Journal",
                        "Packets of a channel from shared memory into segments; for feedhandler.journal.")
        .def(nb::init<const std::string&>(), "directory"_a)
        .def("pump", &Journal::pump, nb::call_guard<nb::gil_scoped_release>(),
             "Move packets until none is left, or one waits for another segment; how many were moved.")
        .def(
            "open",
            [](Journal& self, const std::string& path, std::size_t bytes, std::int64_t longest_ns) {
                with_os_errors([&] { self.open(path, bytes, longest_ns); });
            },
            "path"_a, "bytes"_a, "longest_ns"_a, "Open a segment. Raises OSError.")
        .def(
            "close",
            [](Journal& self) {
                if (self.segment() == nullptr) return;
                with_os_errors([&] { self.close(); });
            },
            "Cut the segment to its size and leave it. Raises OSError.")
        .def(
            "sync",
            [](Journal& self) {
                if (self.segment() == nullptr) return;
                with_os_errors([&] { self.segment()->sync(); });
            },
            "Bring to disk what is written. Raises OSError.")
        .def(
            "set_state",
            [](Journal& self, const std::string& name) {
                for (std::uint32_t i = 0; i < 4; ++i)
                    if (name == journal::journal_state_names[i])
                        return self.set_state(static_cast<journal::JournalState>(i));
                throw nb::value_error("no such state");
            },
            "state"_a, "Tell readers of the channel: writing, stopped, failed.")
        .def("counters", [](const Journal& self) { return counters_dict(self.counters()); })
        .def_prop_ro("waiting", &Journal::waiting, "Does the next packet need another segment?")
        .def_prop_ro("waiting_ns", &Journal::waiting_ns, "When that packet was received, UTC ns.")
        .def_prop_ro("available", &Journal::available, "Is there anything in the ring?")
        .def_prop_ro("segment_first_ns", &Journal::segment_first_ns,
                     "UTC ns of the open segment's first packet.")
        .def_prop_ro("segment_packets",
                     [](const Journal& self) { return self.segment() ? self.segment()->packets() : 0; });

    nb::class_<record::ModifyDialect>(m, "ModifyDialect",
                                      "Turns mbo records of one day into the dialect `modify`.")
        .def(nb::init<>())
        .def(
            "apply",
            [](record::ModifyDialect& self, const nb::bytes& records) {
                if (records.size() % sizeof(dbn::Mbo) != 0) throw nb::value_error("not whole mbo records");
                nb::object out = nb::steal(
                    PyBytes_FromStringAndSize(records.c_str(), static_cast<Py_ssize_t>(records.size())));
                if (!out.is_valid()) throw nb::python_error();
                auto* bytes = reinterpret_cast<std::byte*>(PyBytes_AsString(out.ptr()));
                const std::size_t count = records.size() / sizeof(dbn::Mbo);
                {
                    const nb::gil_scoped_release unlocked;
                    for (std::size_t i = 0; i < count; ++i) self.apply(bytes + i * sizeof(dbn::Mbo));
                }
                return nb::borrow<nb::bytes>(out);
            },
            "records"_a, "Whole mbo records, in order, changed.");

    nb::class_<PacketRing>(m, "PacketRing", "The writing end of a packet ring; for tests and benchmarks.")
        .def(nb::init<const std::string&, std::uint64_t, std::uint64_t,
                      const std::vector<receive::LineSettings>&,
                      const std::vector<std::pair<std::string, std::uint16_t>>&>(),
             "directory"_a, "bytes"_a, "epoch"_a, "lines"_a, "servers"_a)
        .def("put", &PacketRing::put, "line"_a, "payload"_a, "ts_recv_ns"_a, "times"_a = 1)
        .def_prop_ro("packets", &PacketRing::packets);
}

}  // namespace fh::bind
