// Shared memory of a channel for Python: the consumer, the reader of counters, and a writer for tests and
// tools.
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>

#include "bind/counter_dict.hpp"
#include "bind/latency_dict.hpp"
#include "bind/register.hpp"
#include "bind/session_text.hpp"
#include "book/table.hpp"
#include "publish/batches.hpp"
#include "publish/channel_reader.hpp"
#include "publish/channel_writer.hpp"
#include "publish/conflate.hpp"
#include "publish/consumer.hpp"
#include "publish/consumer_count.hpp"
#include "publish/groups.hpp"
#include "publish/pair_consumer.hpp"
#include "record/normalizer.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace fh::bind {
namespace {

using publish::ChannelError;
using publish::ChannelReader;
using publish::ChannelSettings;
using publish::ChannelWriter;

// A field of fixed size: whether a NUL ends it is not taken on trust.
template <std::size_t Size>
nb::str text(const char (&field)[Size]) {
    return nb::str(field, strnlen(field, Size));
}

nb::dict descriptions() {
    const auto table = [](Fields fields) {
        nb::dict out;
        for (const CounterInfo& field : fields) out[field.name] = field.description;
        return out;
    };
    nb::dict out;
    out["lines"] = table(line_counter_info);
    out["receive"] = table(receive_counter_info);
    out["clock"] = table(clock_counter_info);
    out["gaps"] = table(gap_counter_info);
    out["recovery"] = table(recovery_counter_info);
    out["escalation"] = table(escalation_counter_info);
    out["servers"] = table(server_counter_info);
    out["feed"] = table(feed_counter_info);
    return out;
}

nb::dict channel_info(const ChannelReader& reader) {
    const ChannelPage& page = reader.page();
    nb::list lines, servers;
    for (std::size_t i = 0; i < page.line_count; ++i) lines.append(text(page.line_names[i]));
    for (const auto& server : page.server_names)
        if (server[0] != 0) servers.append(text(server));
    nb::dict out;
    out["channel"] = text(page.channel);
    out["dataset"] = text(page.dataset);
    out["epoch"] = page.epoch;
    out["daemon_pid"] = page.daemon_pid;
    out["schema_mask"] = page.schema_mask;
    out["depth"] = page.depth;
    out["publisher_id"] = page.publisher_id;
    out["midnight_ns"] = page.midnight_ns;
    out["trading_day"] = page.trading_day;
    out["lines"] = lines;
    out["servers"] = servers;
    return out;
}

nb::dict channel_counters(const ChannelReader& reader) {
    CounterSlot slot;
    if (!reader.read_counters(slot))
        throw ChannelError(reader.directory() + ": counters: no whole copy to be had");
    nb::list lines;
    for (std::size_t i = 0; i < reader.page().line_count; ++i)
        lines.append(to_dict(words(slot.counters.lines[i]), line_counter_info));
    nb::dict records;
    for (std::size_t i = 0; i < dbn::schema_count; ++i)
        records[dbn::schema_names[i]] = slot.counters.records[i];
    nb::dict out;
    out["session"] = session_text(slot.session, sizeof(slot.session));
    out["ts_ns"] = slot.ts_ns;
    out["next_sequence"] = slot.next_sequence;
    out["lines"] = lines;
    out["receive"] = to_dict(words(slot.counters.receive), receive_counter_info);
    out["clock"] = to_dict(words(slot.counters.clock), clock_counter_info);
    out["gaps"] = to_dict(words(slot.counters.gaps), gap_counter_info);
    out["recovery"] = to_dict(words(slot.counters.recovery), recovery_counter_info);
    out["escalation"] = to_dict(words(slot.counters.escalation), escalation_counter_info);
    nb::list servers;
    for (std::size_t i = 0; i < max_servers && reader.page().server_names[i][0] != 0; ++i)
        servers.append(to_dict(words(slot.counters.servers[i]), server_counter_info));
    out["servers"] = servers;
    out["feed"] = to_dict(words(slot.counters.feed), feed_counter_info);
    out["records"] = records;
    return out;
}

nb::list channel_gaps(const ChannelReader& reader) {
    nb::list out;
    for (const GapRecord& gap : reader.read_gaps()) {
        nb::dict entry;
        entry["opened_ns"] = gap.opened_ns;
        entry["closed_ns"] = gap.closed_ns;
        entry["first"] = gap.first;
        entry["last"] = gap.last;
        entry["recovered_line"] = gap.recovered_line;
        entry["recovered_rewind"] = gap.recovered_rewind;
        entry["unrecovered"] = gap.unrecovered;
        entry["requests"] = gap.requests;
        out.append(entry);
    }
    return out;
}

GapRecord gap_from_dict(const nb::dict& in) {
    const auto number = [&](const char* key) {
        return in.contains(key) ? nb::cast<std::uint64_t>(in[key]) : 0;
    };
    return {static_cast<std::int64_t>(number("opened_ns")),
            static_cast<std::int64_t>(number("closed_ns")),
            number("first"),
            number("last"),
            number("recovered_line"),
            number("recovered_rewind"),
            number("unrecovered"),
            number("requests")};
}

// As hops_dict(), with what the writer's clock is.
nb::dict channel_latency(const ChannelReader& reader) {
    const latency::LatencyPage& page = reader.page().latency;
    auto hops = std::make_unique<latency::Hops>();
    reader.read_latency(*hops);
    nb::dict out = hops_dict(*hops);
    out["sample_every"] = page.sample_every.load(std::memory_order_relaxed);
    const bool tsc =
        page.clock.load(std::memory_order_relaxed) == static_cast<std::uint32_t>(latency::TickSource::tsc);
    out["clock"] = tsc ? "tsc" : "monotonic";
    out["ns_per_tick"] = static_cast<double>(page.scale.load(std::memory_order_relaxed)) / 4294967296.0;
    out["stamp_ns"] = page.stamp_ns.load(std::memory_order_relaxed);
    out["recalibrated"] = page.recalibrated.load(std::memory_order_relaxed);
    return out;
}

// ---- writer

using Bytes = nb::ndarray<const std::uint8_t, nb::ndim<1>, nb::c_contig>;

// A channel's writer with a normalizer behind it, so that books and records come out of real messages.
struct PythonWriter : ChannelWriter {
    using Normalizer = record::Normalizer<publish::RingWriter>;
    using ChannelWriter::ChannelWriter;
    std::unique_ptr<Normalizer> normalizer;

    void apply(std::uint64_t first_sequence, const std::vector<nb::bytes>& messages,
               std::int64_t ts_recv_ns) {
        if (books().size() < book::books_file_size)
            throw nb::value_error("apply: make the channel with books=True");
        if (!normalizer) {
            record::NormalizerSettings settings;
            settings.limits = {100'000, 64, 1'000};
            settings.trading_events = true;
            normalizer = std::make_unique<Normalizer>(ring(), books().data(), settings);
        }
        std::vector<Message> spans;
        for (const nb::bytes& message : messages)
            spans.push_back({reinterpret_cast<const std::uint8_t*>(message.c_str()),
                             static_cast<std::uint16_t>(message.size())});
        normalizer->set_state(state());
        normalizer->on_messages(first_sequence, spans, ts_recv_ns, TimestampKind::user);
        set_next_sequence(first_sequence + messages.size());
    }

    void clear(std::uint64_t sequence, std::int64_t ts_ns) {
        if (normalizer) normalizer->on_clear(sequence, ts_ns);
    }
};

// Records of one schema, back to back, records_per_message to a message: sequence numbers count from
// first_sequence.
std::size_t write_records(PythonWriter& writer, unsigned schema, const Bytes& bodies,
                          std::uint32_t first_sequence, std::size_t records_per_commit,
                          std::size_t records_per_message) {
    if (schema >= dbn::schema_sizes.size()) throw nb::value_error("schema: 0 to 7 are allowed");
    const std::size_t size = dbn::schema_sizes[schema];
    if (bodies.size() % size != 0) throw nb::value_error("bodies: not a whole number of records");
    const std::size_t count = bodies.size() / size;
    const nb::gil_scoped_release nogil;
    for (std::size_t i = 0; i < count; ++i) {
        void* body =
            writer.ring().claim(static_cast<dbn::Schema>(schema),
                                first_sequence + static_cast<std::uint32_t>(i / records_per_message));
        std::memcpy(body, bodies.data() + i * size, size);
        if ((i + 1) % (records_per_commit * records_per_message) == 0) writer.ring().commit();
    }
    writer.ring().commit();
    return count;
}

void write_event(PythonWriter& writer, unsigned type, unsigned state, unsigned previous, std::uint64_t first,
                 std::uint64_t last, unsigned line, const std::string& session, std::int64_t ts_ns) {
    Event event{};
    event.ts_ns = ts_ns;
    event.first = first;
    event.last = last;
    event.type = static_cast<EventType>(type);
    event.state = static_cast<FeedState>(state);
    event.previous = static_cast<FeedState>(previous);
    event.line = static_cast<std::uint8_t>(line);
    session.copy(event.session, sizeof event.session - 1);
    writer.publish(event, static_cast<std::uint32_t>(last));
}

void write_counters(PythonWriter& writer, const std::vector<nb::dict>& lines, const nb::dict& gaps,
                    const nb::dict& recovery, const nb::dict& feed, const std::string& session,
                    std::int64_t ts_ns, const nb::dict& escalation, const std::vector<nb::dict>& servers) {
    Counters counters;
    for (std::size_t i = 0; i < std::min(lines.size(), max_lines); ++i)
        from_dict(words(counters.lines[i]), line_counter_info, lines[i]);
    from_dict(words(counters.gaps), gap_counter_info, gaps);
    from_dict(words(counters.recovery), recovery_counter_info, recovery);
    from_dict(words(counters.feed), feed_counter_info, feed);
    from_dict(words(counters.escalation), escalation_counter_info, escalation);
    for (std::size_t i = 0; i < std::min(servers.size(), max_servers); ++i)
        from_dict(words(counters.servers[i]), server_counter_info, servers[i]);
    writer.put_counters(counters, session, ts_ns);
}

void init_writer(PythonWriter* self, const std::string& directory, const std::string& channel,
                 const std::string& dataset, std::uint64_t epoch, std::uint32_t schema_mask,
                 std::uint32_t depth, std::uint32_t publisher_id, std::int64_t midnight_ns,
                 std::uint32_t trading_day, std::uint64_t ring_bytes, bool books,
                 const std::vector<std::string>& lines, const std::vector<std::string>& servers) {
    new (self) PythonWriter(ChannelSettings{directory, channel, dataset, epoch, schema_mask, depth,
                                            publisher_id, midnight_ns, trading_day, ring_bytes,
                                            books ? book::books_file_size : 4096, lines, servers});
}

void register_writer(nb::module_& m) {
    nb::class_<PythonWriter>(m, "ChannelWriter",
                             "Writes a channel's shared memory: what the daemon does, for tests and tools.")
        .def("__init__", &init_writer, "directory"_a, "channel"_a, "dataset"_a = "XNAS.ITCH", "epoch"_a = 1,
             "schema_mask"_a = 0x7f, "depth"_a = 10, "publisher_id"_a = 2, "midnight_ns"_a = 0,
             "trading_day"_a = 19700101, "ring_bytes"_a = 1 << 20, "books"_a = false,
             "lines"_a = std::vector<std::string>{"A", "B"}, "servers"_a = std::vector<std::string>{})
        .def(
            "own", [](PythonWriter& self) { self.own(publish::monotonic_now_ns()); },
            "Take the owner's mutex on this thread and put the files in place.")
        .def(
            "release", [](PythonWriter& self) { self.release(); },
            "Clean stop, on the owning thread: readers see DEAD.")
        .def("heartbeat", [](PythonWriter& self) { self.heartbeat(publish::monotonic_now_ns()); })
        .def(
            "set_state",
            [](PythonWriter& self, unsigned state) { self.set_state(static_cast<FeedState>(state)); },
            "state"_a)
        .def(
            "set_next_sequence", [](PythonWriter& self, std::uint64_t next) { self.set_next_sequence(next); },
            "next_sequence"_a)
        .def("write", &write_records, "schema"_a, "bodies"_a, "first_sequence"_a = 1,
             "records_per_commit"_a = 1, "records_per_message"_a = 1,
             "Publish records of one schema from a flat uint8 array; the GIL is released.")
        .def("apply", &PythonWriter::apply, "first_sequence"_a, "messages"_a, "ts_recv_ns"_a = 0,
             "Put messages through a normalizer: books and records as the daemon makes them.")
        .def("clear", &PythonWriter::clear, "sequence"_a, "ts_ns"_a = 0)
        .def("event", &write_event, "type"_a, "state"_a = 0, "previous"_a = 0, "first"_a = 0, "last"_a = 0,
             "line"_a = 255, "session"_a = "", "ts_ns"_a = 0)
        .def("put_counters", &write_counters, "lines"_a, "gaps"_a, "recovery"_a, "feed"_a, "session"_a = "",
             "ts_ns"_a = 0, "escalation"_a = nb::dict(), "servers"_a = std::vector<nb::dict>{})
        .def(
            "add_gap",
            [](PythonWriter& self, const nb::dict& gap) { return self.add_gap(gap_from_dict(gap)); }, "gap"_a)
        .def(
            "update_gap",
            [](PythonWriter& self, std::uint64_t index, const nb::dict& gap) {
                self.update_gap(index, gap_from_dict(gap));
            },
            "index"_a, "gap"_a);
}

// ---- readers

void register_reader(nb::module_& m) {
    nb::class_<ChannelReader>(m, "ChannelReader",
                              "State, counters and gap history of a channel; never its records.")
        .def(nb::init<const std::string&>(), "directory"_a)
        .def_prop_ro(
            "state", [](const ChannelReader& self) { return self.state(); }, "0..4, or 255: no daemon")
        .def_prop_ro("alive", [](const ChannelReader& self) { return self.alive(); })
        .def_prop_ro("next_sequence", &ChannelReader::next_sequence)
        .def_prop_ro("gap_count", &ChannelReader::gap_count)
        .def_prop_ro("replaced", &ChannelReader::replaced, "Has another daemon put new files in place?")
        .def("info", &channel_info)
        .def("counters", &channel_counters)
        .def("gaps", &channel_gaps)
        .def("latency", &channel_latency, "What the hops of sampled packets have taken since the start.")
        .def("consumers",
             [](const ChannelReader& self) { return publish::count_consumers(self.directory()); });
}

// (sequence, ts_event_ns, state, trading_status, incomplete, bids, asks): sides as bytes of BookLevel; None:
// no such symbol.
template <typename C, typename Instrument>
nb::object read_python_book(const C& consumer, Instrument instrument) {
    BookView view;
    std::uint8_t state = state_dead;
    const ReadResult result = consumer.book(instrument, view, state);
    if (result == ReadResult::no_such_instrument) return nb::none();
    if (result == ReadResult::torn) {  // the writer died or stands still inside this book: nothing in it may
                                       // be believed
        if (state == static_cast<std::uint8_t>(FeedState::live))
            state = static_cast<std::uint8_t>(FeedState::stale);
        view = BookView{};
    }
    const auto side = [](const auto& levels, std::uint32_t count) {
        return nb::bytes(reinterpret_cast<const char*>(levels.data()), count * sizeof(BookLevel));
    };
    return nb::make_tuple(view.sequence, view.ts_event_ns, state, static_cast<int>(view.trading_status),
                          view.incomplete, side(view.bids, view.bid_count), side(view.asks, view.ask_count));
}

template <typename C>
nb::dict all_symbols(C& consumer) {
    nb::dict out;
    consumer.symbols().each([&](std::uint32_t id, std::uint64_t symbol) {
        if (symbol == 0) return;  // its name went to another instrument
        const std::string name = publish::unpack_symbol(symbol);
        out[nb::int_(id)] = nb::str(name.c_str());
    });
    return out;
}

// A consumer (of one channel or of a pair) and what it has put together for one call of poll().
template <typename C>
struct PythonConsumer {
    C consumer;
    bool conflate = false;
    std::vector<dbn::Schema> books;  // conflated schemas that a book can stand in for
    publish::BatchBuilder builder{};
    publish::GroupBuilder grouper{};
    publish::Conflator conflator{};
    std::uint64_t seen_lost = 0;
    std::uint64_t seen_restarts = 0;

    // By schema and instrument, for topics: [(schema, state, sequence, instrument_id, count, bodies), ...]
    nb::list poll_groups(double timeout_s, std::size_t max_bytes) {
        const auto add = [this](const RecordHeader& header, const std::byte* body) {
            grouper.add(header, body);
        };
        grouper.clear();
        fill(static_cast<std::int64_t>(timeout_s * 1e9), max_bytes, add,
             [this] { return !grouper.groups().empty(); });
        nb::list out;
        for (const publish::Group& group : grouper.groups())
            out.append(nb::make_tuple(
                group.schema, group.state, group.sequence, group.instrument_id, group.count,
                nb::bytes(reinterpret_cast<const char*>(group.bodies.data()), group.bodies.size())));
        return out;
    }

    // Waits with the interpreter free; looks for Ctrl-C twenty times a second.
    template <typename Handler, typename Found>
    bool fill(std::int64_t timeout_ns, std::size_t max_bytes, Handler add, Found found) {
        const std::int64_t end = publish::monotonic_now_ns() + timeout_ns;
        const std::uint8_t before = consumer.seen_state();
        for (;;) {
            {
                const nb::gil_scoped_release nogil;
                const std::int64_t left = end - publish::monotonic_now_ns();
                consumer.wait(std::clamp<std::int64_t>(left, 0, 50'000'000));
                consumer.poll(add, max_bytes);
            }
            if (found()) return true;
            if (PyErr_CheckSignals() != 0) throw nb::python_error();
            if (consumer.seen_state() != before || publish::monotonic_now_ns() >= end) return false;
        }
    }

    // All that there is, the newest of each instrument; what was overwritten unread is replaced by whole
    // books.
    bool fill_latest(std::int64_t timeout_ns, std::size_t max_bytes) {
        const auto add = [this](const RecordHeader& header, const std::byte* body) {
            conflator.add(header, body);
        };
        fill(timeout_ns, max_bytes, add, [this] { return !conflator.empty(); });
        const nb::gil_scoped_release nogil;
        const auto drain = [&] {  // bounded: the feed may be faster than we are
            for (int i = 0; i < 256 && consumer.poll(add, max_bytes) != 0; ++i) {
            }
        };
        drain();
        if (std::exchange(seen_lost, consumer.lost()) != consumer.lost() ||
            std::exchange(seen_restarts, consumer.restarts()) != consumer.restarts()) {
            add_books();
            drain();
        }
        conflator.drained();
        return !conflator.empty();
    }

    void add_books() {
        consumer.symbols().each([this](std::uint32_t id, std::uint64_t symbol) {
            if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), symbol) == wanted.end()) return;
            BookView view;
            std::uint8_t state = state_dead;
            if (consumer.book(id, view, state) != ReadResult::ok || view.sequence == 0) return;
            if (state > 4) state = static_cast<std::uint8_t>(FeedState::stale);
            for (const dbn::Schema schema : books)
                conflator.add_book(id, view, schema, state,
                                   static_cast<std::uint16_t>(consumer.channel().page().publisher_id));
        });
    }
    std::vector<std::uint64_t> wanted{};  // symbols; empty: all

    // (bytes, [(schema, state, sequence, offset, count), ...])
    nb::object poll(double timeout_s, std::size_t max_bytes) {
        builder.clear_runs();
        const auto add = [this](const RecordHeader& header, const std::byte* body) {
            builder.add(header, body);
        };
        if (conflate) {
            if (!fill_latest(static_cast<std::int64_t>(timeout_s * 1e9), max_bytes)) return nb::none();
            conflator.take(add);
        } else if (!fill(static_cast<std::int64_t>(timeout_s * 1e9), max_bytes, add,
                         [this] { return builder.size() != 0; })) {
            return nb::none();
        }
        nb::list runs;
        for (const publish::Run& run : builder.runs())
            runs.append(nb::make_tuple(run.schema, run.state, run.sequence, run.offset, run.count));
        const std::size_t size = builder.size();
        std::byte* data = builder.take();
        const nb::capsule owner(data, [](void* memory) noexcept { std::free(memory); });
        return nb::make_tuple(nb::ndarray<nb::numpy, std::uint8_t, nb::ndim<1>>(data, {size}, owner), runs);
    }
};

template <typename C, typename... Arguments>
void make_consumer(PythonConsumer<C>* self, bool conflate, std::uint32_t schema_mask,
                   const std::vector<std::string>& symbols, Arguments&&... arguments) {
    new (self) PythonConsumer<C>{C(std::forward<Arguments>(arguments)...), conflate, {}};
    for (const dbn::Schema schema : {dbn::Schema::mbp_1, dbn::Schema::mbp_10})
        if ((schema_mask & dbn::schema_bit(schema)) != 0) self->books.push_back(schema);
    for (const std::string& symbol : symbols) self->wanted.push_back(publish::pack_symbol(symbol));
}

publish::WaitStrategy spinning(std::int64_t spin_ns) {
    publish::WaitStrategy strategy;
    strategy.spin_ns = spin_ns;
    return strategy;
}

template <typename C>
nb::class_<PythonConsumer<C>> define_consumer(nb::module_& m, const char* name, const char* description) {
    using Python = PythonConsumer<C>;
    return nb::class_<Python>(m, name, description)
        .def("poll", &Python::poll, "timeout_s"_a, "max_bytes"_a,
             nb::sig("def poll(self, timeout_s: float, max_bytes: int) -> "
                     "tuple[numpy.typing.NDArray[numpy.uint8], list[tuple[int, int, int, int, int]]] | None"))
        .def("poll_groups", &Python::poll_groups, "timeout_s"_a, "max_bytes"_a,
             nb::sig("def poll_groups(self, timeout_s: float, max_bytes: int) -> "
                     "list[tuple[int, int, int, int, int, bytes]]"))
        .def_prop_ro("state", [](const Python& self) { return self.consumer.state(); })
        .def_prop_ro("lost", [](const Python& self) { return self.consumer.lost(); })
        .def_prop_ro("conflated", [](const Python& self) { return self.conflator.replaced(); })
        .def_prop_ro("restarts", [](const Python& self) { return self.consumer.restarts(); })
        .def_prop_ro("epoch", [](const Python& self) { return self.consumer.epoch(); })
        .def_prop_ro("next_sequence",
                     [](const Python& self) { return self.consumer.channel().next_sequence(); })
        .def(
            "symbol", [](Python& self, std::uint32_t id) { return self.consumer.symbol(id); },
            "instrument_id"_a)
        .def(
            "symbols", [](Python& self) { return all_symbols(self.consumer); }, "{instrument_id: symbol}")
        .def(
            "book",
            [](const Python& self, const std::string& symbol) {
                return read_python_book(self.consumer, std::string_view(symbol));
            },
            "symbol"_a,
            nb::sig("def book(self, symbol: str) -> tuple[int, int, int, int, bool, bytes, bytes] | None"))
        .def(
            "book_of",
            [](const Python& self, std::uint32_t id) { return read_python_book(self.consumer, id); },
            "instrument_id"_a,
            nb::sig("def book_of(self, instrument_id: int) -> "
                    "tuple[int, int, int, int, bool, bytes, bytes] | None"))
        .def("session",
             [](const Python& self) {
                 CounterSlot slot;
                 if (!self.consumer.channel().read_counters(slot)) return nb::str("");
                 return session_text(slot.session, sizeof(slot.session));
             })
        .def("info", [](const Python& self) { return channel_info(self.consumer.channel()); });
}

// Looks for Ctrl-C twenty times a second.
void skip(PythonConsumer<publish::Consumer>& self, double timeout_s) {
    const std::int64_t end = publish::monotonic_now_ns() + static_cast<std::int64_t>(timeout_s * 1e9);
    while (publish::monotonic_now_ns() < end) {
        {
            const nb::gil_scoped_release nogil;
            const std::int64_t until = std::min(end, publish::monotonic_now_ns() + 50'000'000);
            while (publish::monotonic_now_ns() < until)
                self.consumer.poll([](const RecordHeader&, const std::byte*) {});
        }
        if (PyErr_CheckSignals() != 0) throw nb::python_error();
    }
}

void register_consumer(nb::module_& m) {
    using One = PythonConsumer<publish::Consumer>;
    using Pair = PythonConsumer<publish::PairConsumer>;
    define_consumer<publish::Consumer>(m, "Consumer",
                                       "Follows the ring of a channel; see feedhandler.Consumer.")
        .def(
            "__init__",
            [](One* self, const std::string& directory, std::uint32_t schema_mask,
               const std::vector<std::string>& symbols, std::int64_t spin_ns, bool conflate) {
                make_consumer(self, conflate, schema_mask, symbols, directory, schema_mask, symbols,
                              spinning(spin_ns));
            },
            "directory"_a, "schema_mask"_a, "symbols"_a, "spin_ns"_a = 50'000, "conflate"_a = false)
        .def("measure_latency", [](One& self) { self.consumer.measure_latency(); })
        .def(
            "latency",
            [](One& self) -> nb::object {
                const latency::ConsumerMeter* meter = self.consumer.latency();
                if (meter == nullptr) return nb::none();
                return nb::make_tuple(latency::Histogram(meter->consume()),
                                      latency::Histogram(meter->whole()), meter->missed());
            },
            nb::sig("def latency(self) -> tuple[Histogram, Histogram, int] | None"),
            "(published until handed out, the whole way, samples missed); None: not measured.")
        .def("skip", &skip, "timeout_s"_a, "Read and drop what comes, spinning, for who only measures.");
    define_consumer<publish::PairConsumer>(
        m, "PairConsumer", "Follows channels of the same feed as one; see feedhandler.Consumer.")
        .def(
            "__init__",
            [](Pair* self, const std::vector<std::string>& directories, std::uint32_t schema_mask,
               const std::vector<std::string>& symbols, std::int64_t spin_ns, bool conflate,
               std::int64_t takeover_ns) {
                make_consumer(self, conflate, schema_mask, symbols, directories, schema_mask, symbols,
                              spinning(spin_ns), takeover_ns);
            },
            "directories"_a, "schema_mask"_a, "symbols"_a, "spin_ns"_a = 50'000, "conflate"_a = false,
            "takeover_ns"_a = publish::PairConsumer::default_takeover_ns)
        .def_prop_ro("delivered_from", [](const Pair& self) {
            std::vector<std::uint64_t> out;
            for (std::size_t i = 0; i < self.consumer.size(); ++i)
                out.push_back(self.consumer.delivered_from(i));
            return out;
        });
}

}  // namespace

void register_publish(nb::module_& m) {
    // What a channel's files do not allow is the run's failure: one line, exit status 1.
    nb::register_exception_translator([](const std::exception_ptr& pointer, void*) {
        try {
            std::rethrow_exception(pointer);
        } catch (const ChannelError& error) {
            nb::object type = nb::module_::import_("feedhandler.errors").attr("RunError");
            PyErr_SetString(type.ptr(), error.what());
        }
    });
    nb::list schemas;
    for (const char* name : dbn::schema_names) schemas.append(nb::str(name));
    m.attr("schema_names") = nb::tuple(schemas);
    m.def("counter_descriptions", &descriptions,
          "{group: {counter: description}}: the one table of the code.");
    register_writer(m);
    register_reader(m);
    register_consumer(m);
}

}  // namespace fh::bind
