// Replay for Python: files recognised, captures looked through, and a replay driven step by step.
#include <sys/mman.h>

#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <stdexcept>
#include <tuple>

#include "bind/register.hpp"
#include "bind/replay_input.hpp"
#include "bind/replay_packets.hpp"
#include "replay/books_csv.hpp"
#include "replay/recognise.hpp"
#include "replay/runner.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace fh::bind {
namespace {

// Zeroed memory that takes room only where it is written to.
class Pages {
  public:
    explicit Pages(std::size_t bytes) : bytes_(bytes) {
        memory_ =
            mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory_ == MAP_FAILED) throw std::bad_alloc();
    }
    ~Pages() { munmap(memory_, bytes_); }
    Pages(const Pages&) = delete;
    Pages& operator=(const Pages&) = delete;
    std::byte* data() const { return static_cast<std::byte*>(memory_); }

  private:
    std::size_t bytes_;
    void* memory_;
};

nb::dict capture_groups(const nb::object& data) {
    const Buffer buffer(data);
    replay::GroupFinder finder(buffer.bytes());
    run_interruptibly([&] { return finder.step(packets_at_once); });
    nb::list groups;
    for (const auto& seen : finder.groups()) {
        groups.append(nb::make_tuple(to_text(seen.group.address), seen.group.port, seen.packets, seen.mold,
                                     seen.multicast()));
    }
    nb::dict out;
    out["groups"] = groups;
    out["unknown_link"] = finder.unknown_link();
    nb::list hours;
    for (const std::int64_t hour : finder.hours()) hours.append(hour);
    out["hours"] = hours;
    return out;
}

struct ReplaySettings {
    std::uint32_t schema_mask;
    bool keep_records;
    std::vector<std::string> symbols;
    replay::RunnerSettings runner;
    replay::Period period;
    std::uint16_t publisher_id;
    std::string exchange;
};

// One replay: scan() first, then start(), then step() until it is False.
class Replay : public ReplayInput {
  public:
    Replay(const nb::object& data, bool binary, const std::vector<GroupText>& groups, ReplaySettings settings)
        : ReplayInput(data, binary, groups, settings.period), settings_(std::move(settings)) {
        settings_.runner.copy_to_all = copy_to_all();
        settings_.runner.timestamp_kind = is_binary() ? TimestampKind::none : TimestampKind::kernel;
    }

    void start(const replay::Midnights& midnights) {
        if (midnights.empty()) throw nb::value_error("midnights: at least one is needed");
        settings_.runner.midnights = midnights;
        normalizer_settings_.symbols = settings_.symbols;
        normalizer_settings_.publisher_id = settings_.publisher_id;
        normalizer_settings_.exchange = settings_.exchange;
        books_file_ = std::make_unique<Pages>(book::books_file_size);
        records_ = std::make_unique<replay::RecordBuffers>(settings_.schema_mask, settings_.keep_records);
        normalizer_ = std::make_unique<replay::Runner::Normalizer>(*records_, books_file_->data(),
                                                                   normalizer_settings_);
        runner_ = std::make_unique<replay::Runner>(input(), scanned(), settings_.runner, counters_,
                                                   *normalizer_, *records_);
    }

    bool step(std::uint64_t packets, std::int64_t until_ns, std::size_t bytes) {
        nb::gil_scoped_release unlocked;
        return runner().step(packets, until_ns, bytes);
    }

    nb::bytes take(std::size_t schema) {
        if (schema >= replay::RecordBuffers::schemas) throw nb::index_error("no such schema");
        nb::bytes out(records_->data(schema), records_->bytes(schema));
        records_->clear(schema);
        return out;
    }

    nb::dict counts() {
        runner();
        counters_.feed = normalizer_->counters();
        nb::dict out;
        receive::FaultCounts faults;
        LineCounters lines;
        for (std::size_t line = 0; line < settings_.runner.lines; ++line) {
            const auto& one = runner_->faults(line);
            faults.dropped += one.dropped;
            faults.duplicated += one.duplicated;
            faults.reordered += one.reordered;
            faults.corrupted += one.corrupted;
            lines.malformed += counters_.lines[line].malformed;
        }
        lines.malformed += runner_->disbelieved_packets() * (copy_to_all() ? settings_.runner.lines : 1);
        out["packets"] = scanned().packets;
        out["messages"] = counters_.feed.messages;
        out["dropped"] = faults.dropped;
        out["duplicated"] = faults.duplicated;
        out["reordered"] = faults.reordered;
        out["corrupted"] = faults.corrupted;
        out["gaps"] = counters_.gaps.total;
        out["gap_messages"] = counters_.gaps.messages;
        out["requests"] = counters_.recovery.requests;
        out["recovered_line"] = counters_.gaps.recovered_line;
        out["recovered_rewind"] = counters_.gaps.recovered_rewind;
        out["recovered_snapshot"] = counters_.gaps.recovered_snapshot;
        out["unrecovered"] = counters_.gaps.unrecovered;
        out["malformed"] = lines.malformed;
        out["malformed_messages"] = counters_.feed.malformed_messages;
        out["unknown_messages"] = counters_.feed.unknown_messages;
        out["unknown_orders"] = counters_.feed.unknown_orders;
        nb::list records;
        for (std::size_t schema = 0; schema < dbn::schema_count; ++schema)
            records.append(records_->count(schema));
        out["records"] = records;
        out["orders"] = counters_.feed.orders;
        constexpr const char* names[] = {"STARTING", "LIVE", "RECOVERING", "STALE", "ENDED"};
        out["state"] = names[static_cast<std::size_t>(runner_->arbiter().state())];
        return out;
    }

    nb::bytes books() {
        runner();
        const std::string text = replay::books_csv(normalizer_->books(), settings_.symbols);
        return nb::bytes(text.data(), text.size());
    }

    nb::list symbols() {
        runner();
        nb::list out;
        for (const auto& named : replay::named_instruments(normalizer_->books())) {
            const bool wanted = settings_.symbols.empty() ||
                                std::find(settings_.symbols.begin(), settings_.symbols.end(), named.symbol) !=
                                    settings_.symbols.end();
            if (wanted)
                out.append(
                    nb::make_tuple(named.instrument_id, nb::bytes(named.symbol.data(), named.symbol.size())));
        }
        return out;
    }

    replay::Runner& runner() {
        if (!runner_) throw std::runtime_error("start() comes first");
        return *runner_;
    }

  private:
    ReplaySettings settings_;
    record::NormalizerSettings normalizer_settings_;
    Counters counters_;
    std::unique_ptr<Pages> books_file_;
    std::unique_ptr<replay::RecordBuffers> records_;
    std::unique_ptr<replay::Runner::Normalizer> normalizer_;
    std::unique_ptr<replay::Runner> runner_;
};

std::size_t checked_lines(std::size_t lines) {
    if (lines < 1 || lines > max_lines) throw nb::value_error("lines: 1 to 8");
    return lines;
}

}  // namespace

void register_replay(nb::module_& m) {
    m.attr("MAX_LINES") = max_lines;
    m.def(
        "recognise_file",
        [](const nb::object& data) { return std::string(replay::recognise(Buffer(data).bytes())); }, "data"_a,
        "What a file is by its content: \"capture\", \"binary\" (BinaryFILE), or \"\".");
    m.def("capture_groups", &capture_groups, "data"_a,
          "Destinations of UDP in a capture: `groups` [(address, port, packets, MoldUDP64 packets among the "
          "first, multicast)], "
          "`unknown_link` frames of link types that are not read, `hours` since 1970 UTC that have frames.");
    nb::class_<ReplayInput>(m, "ReplayInput", "A file as input; scan() first.")
        .def("scan", &ReplayInput::scan, "midnights"_a,
             "First reading: sessions, numbers, how the file ends. `midnights` in UTC ns, in order: of a "
             "BinaryFILE's day, or of all days of a capture.")
        .def("input_end", &ReplayInput::input_end, "How the file ended.")
        .def_prop_ro("sessions", &ReplayInput::sessions, "(session, first number, end) of every session.")
        .def_prop_ro("packets", [](const ReplayInput& r) { return r.scanned().packets; })
        .def_prop_ro("first_ns", [](const ReplayInput& r) { return r.scanned().first_ns; });

    nb::class_<Replay, ReplayInput>(m, "Replay",
                                    "One replay: scan(), start(), then step() until it is False.")
        .def(
            "__init__",
            [](Replay* self, const nb::object& data, bool binary, const std::vector<GroupText>& groups,
               std::size_t lines, double drop, double duplicate, double reorder, double corrupt,
               double drop_burst, bool rewind, bool snapshot, double drop_rewind, std::uint64_t attempts,
               std::uint64_t seed, std::uint32_t schema_mask, bool keep_records,
               std::vector<std::string> symbols, std::int64_t begin_ns, std::int64_t end_ns,
               std::uint16_t publisher_id, std::string exchange) {
                ReplaySettings settings{schema_mask,        keep_records, std::move(symbols), {},
                                        {begin_ns, end_ns}, publisher_id, std::move(exchange)};
                settings.runner.lines = checked_lines(lines);
                settings.runner.faults = {drop, drop_burst, duplicate, reorder, corrupt};
                settings.runner.rewind = rewind;
                settings.runner.snapshot = snapshot;
                settings.runner.drop_rewind = drop_rewind;
                settings.runner.attempts = attempts;
                settings.runner.seed = seed;
                new (self) Replay(data, binary, groups, std::move(settings));
            },
            "data"_a, nb::kw_only(), "binary"_a, "groups"_a, "lines"_a, "drop"_a, "duplicate"_a, "reorder"_a,
            "corrupt"_a, "drop_burst"_a, "rewind"_a, "snapshot"_a = false, "drop_rewind"_a, "attempts"_a,
            "seed"_a, "schema_mask"_a, "keep_records"_a, "symbols"_a,
            "begin_ns"_a = replay::Period{}.begin_ns, "end_ns"_a = replay::Period{}.end_ns,
            "publisher_id"_a = 2, "exchange"_a = "XNAS")
        .def("start", &Replay::start, "midnights"_a,
             "Sets the pipeline up; `midnights` in UTC ns, in order: of the trading day, or of all days that "
             "sessions may begin on.")
        .def("step", &Replay::step, "packets"_a, "until_ns"_a, "bytes"_a,
             "Plays at most `packets`, none later than `until_ns`, until `bytes` of records wait. False when "
             "all "
             "is over.")
        .def("take", &Replay::take, "schema"_a, "The records of a schema since the last take.")
        .def("counts", &Replay::counts,
             "What `replay --json` tells, but for times and hashes; `records` by schema bit.")
        .def("books", &Replay::books, "Every level of every book as CSV lines.")
        .def("symbols", &Replay::symbols, "(instrument id, symbol) of every instrument named, by symbol.")
        .def_prop_ro("clock_ns", [](Replay& r) { return r.runner().clock_ns(); })
        .def_prop_ro("packets_played", [](Replay& r) { return r.runner().packets_played(); })
        .def_prop_ro("next_packet_ns", [](Replay& r) { return r.runner().next_packet_ns(); });

    nb::class_<Packets, ReplayInput>(m, "ReplayPackets",
                                     "The packets as lossy lines carry them: scan(), start(), take().")
        .def(
            "__init__",
            [](Packets* self, const nb::object& data, bool binary, const std::vector<GroupText>& groups,
               std::size_t lines, double drop, double duplicate, double reorder, double corrupt,
               double drop_burst, std::uint64_t seed) {
                const receive::Faults faults{drop, drop_burst, duplicate, reorder, corrupt};
                new (self) Packets(data, binary, groups, checked_lines(lines), faults, seed);
            },
            "data"_a, nb::kw_only(), "binary"_a, "groups"_a, "lines"_a, "drop"_a, "duplicate"_a, "reorder"_a,
            "corrupt"_a, "drop_burst"_a, "seed"_a)
        .def("start", &Packets::start)
        .def("take", &Packets::take, "packets"_a, "until_ns"_a,
             "[(line, payload)] of at most `packets` of the input, none later than `until_ns` or of a new "
             "session.")
        .def("open_session", &Packets::open_session, "Lets the next session's packets be taken; its index.")
        .def("end_session", &Packets::end_session,
             "[(line, payload)]: what was delayed, and the end on every line.")
        .def("runs", &Packets::runs, "session"_a,
             "[(first number, count, blocks)] of all that a session holds.")
        .def("counts", &Packets::counts, "Faults so far; `delivered` by line.")
        .def_prop_ro("at_new_session", [](Packets& p) { return p.feed().at_new_session(); })
        .def_prop_ro("packets_played", [](Packets& p) { return p.feed().packets_played(); })
        .def_prop_ro("next_packet_ns", [](Packets& p) { return p.feed().next_packet_ns(); });
}

}  // namespace fh::bind
