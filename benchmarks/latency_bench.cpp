// What measuring latencies costs: a day from memory through receive loop, frame, sequence, books, records and
// ring, by a handler without a meter, with one that is off, and with one that follows a packet in so many.
// One JSON object on stdout: nanoseconds of processor time a packet of each round, the variants interleaved.
//   latency_bench FILE [--packet MESSAGES] [--every N] [--rounds N] [--limit MESSAGES] [--only VARIANT]
//   [--cpu N]
// FILE: a BinaryFILE. Its first half fills books and caches, the second is measured.
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "book/memory.hpp"
#include "book/table_writer.hpp"
#include "decode/fields.hpp"
#include "frame/moldudp64.hpp"
#include "latency/meter.hpp"
#include "latency/metered.hpp"
#include "latency/tick_clock.hpp"
#include "pipeline.hpp"
#include "publish/ring_writer.hpp"
#include "receive/loop.hpp"
#include "receive/memory.hpp"
#include "record/normalizer.hpp"

namespace {

using namespace fh;

constexpr std::uint64_t ring_bytes = 16u << 20;
using Records = record::Normalizer<publish::RingWriter>;
using Meter = latency::Meter<latency::TickClock>;

struct NoMeter {
    void dequeued(std::size_t) {}
    void next(const Datagram&) {}
};

// What receive::Feed does with a packet.
template <class Normalizer, class AnyMeter>
class Handler {
  public:
    Handler(publish::RingWriter& ring, Normalizer& normalizer, AnyMeter& meter)
        : ring_(ring), meter_(meter), pipeline_({}, counters_, normalizer, *this) {}
    void on_poll(std::size_t datagrams) { meter_.dequeued(datagrams); }
    std::size_t look_ahead(std::span<const Datagram> d) { return pipeline_.arbiter().look_ahead(d); }
    void on_datagram(const Datagram& d, std::int64_t now_ns) {
        meter_.next(d);
        pipeline_.arbiter().on_packet(d.line, d.data, d.length, d.ts_recv_ns, d.timestamp_kind, now_ns);
    }
    void on_timer(std::int64_t now_ns) { pipeline_.arbiter().on_timer(now_ns); }
    std::int64_t next_deadline() const { return pipeline_.arbiter().next_deadline(); }
    void end_turn(std::int64_t, std::int64_t) {}
    std::uint64_t next_sequence() const { return pipeline_.arbiter().next_sequence(); }

    void on_event(const Event& event) {
        if (event.type == EventType::state) ring_.set_state(event.state);
    }
    void send_request(std::size_t, std::span<const std::uint8_t, 20>) {}

  private:
    publish::RingWriter& ring_;
    AnyMeter& meter_;
    Counters counters_;
    Pipeline<Normalizer, Handler> pipeline_;
};

struct Input {
    receive::MemorySource source;
    std::size_t packets = 0;
    std::uint64_t messages = 0;
};

Input load(const char* path, std::size_t per_packet, std::uint64_t limit) {
    Input input;
    const int fd = open(path, O_RDONLY);
    struct stat status {};
    if (fd < 0 || fstat(fd, &status) != 0) std::abort();
    const auto size = static_cast<std::size_t>(status.st_size);
    const auto* at =
        static_cast<const std::uint8_t*>(mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0));
    const std::uint8_t* const end = at + size;
    std::vector<std::uint8_t> packet(frame::mold_header_bytes);
    std::uint16_t count = 0;
    const std::int64_t now_ns = receive::read_clock(CLOCK_REALTIME);
    const auto flush = [&] {
        if (count == 0) return;
        frame::encode_mold_header(packet.data(), "LATENCYBEN", input.messages + 1, count);
        input.source.add(0, packet, now_ns, TimestampKind::kernel);
        input.messages += count;
        ++input.packets;
        packet.resize(frame::mold_header_bytes);
        count = 0;
    };
    while (at + 2 < end && input.messages + count < limit) {
        const std::uint16_t length = decode::be16(at);
        if (length == 0) break;
        packet.insert(packet.end(), at, at + length + 2);
        at += length + 2;
        if (++count == per_packet) flush();
    }
    flush();
    return input;
}

double cpu_ns() { return static_cast<double>(receive::read_clock(CLOCK_THREAD_CPUTIME_ID)); }

template <class Normalizer, class AnyMeter>
double play(Input& input, publish::RingWriter& ring, Normalizer& normalizer, AnyMeter& meter) {
    input.source.rewind();
    Handler<Normalizer, AnyMeter> handler(ring, normalizer, meter);
    receive::RequestSockets none({});
    receive::ReceiveLoop<receive::MemorySource, Handler<Normalizer, AnyMeter>> loop(input.source, none,
                                                                                    handler, true);
    std::size_t played = 0;
    while (played < input.packets / 2) played += loop.turn();
    const double start_ns = cpu_ns();
    const std::size_t measured = input.packets - played;
    while (!input.source.exhausted()) loop.turn();
    const double spent_ns = cpu_ns() - start_ns;
    if (handler.next_sequence() != input.messages + 1) std::abort();
    return spent_ns / static_cast<double>(measured);
}

// -1: no meter at all.
double run(Input& input, long every) {
    const book::Reserved<std::byte> memory(ring_file_size(ring_bytes), book::Pages::small);
    const book::Reserved<std::byte> table(book::books_file_size, book::Pages::huge);
    std::memset(memory.data(), 0, ring_file_size(ring_bytes));
    publish::RingWriter ring(memory.data(), ring_bytes, 1,
                             dbn::schema_bit(dbn::Schema::mbp_1) | dbn::schema_bit(dbn::Schema::trades));
    if (every < 0) {
        NoMeter nothing;
        Records normalizer(ring, table.data(), {});
        return play(input, ring, normalizer, nothing);
    }
    static const latency::TickClock clock;
    const auto page = std::make_unique<latency::LatencyPage>();
    Meter meter(*page, static_cast<std::uint32_t>(every), clock);
    latency::Metered<Records, publish::RingWriter, Meter> normalizer(meter, ring, table.data(),
                                                                     record::NormalizerSettings{});
    const double ns = play(input, ring, normalizer, meter);
    const std::uint64_t samples = every == 0 ? 0 : input.packets / static_cast<std::uint64_t>(every);
    if (page->hops.samples != samples) std::abort();  // or the cost is not that of measuring
    return ns;
}

}  // namespace

int main(int argc, char** argv) {
    std::size_t per_packet = 1;
    long every = 512;
    int rounds = 11;
    std::uint64_t limit = ~std::uint64_t{0};
    unsigned cpu = 1;
    std::string only;
    for (int i = 2; i + 1 < argc; i += 2) {
        const std::string option = argv[i];
        if (option == "--packet") per_packet = std::stoul(argv[i + 1]);
        if (option == "--every") every = std::stol(argv[i + 1]);
        if (option == "--rounds") rounds = std::stoi(argv[i + 1]);
        if (option == "--limit") limit = std::stoull(argv[i + 1]);
        if (option == "--only") only = argv[i + 1];
        if (option == "--cpu") cpu = static_cast<unsigned>(std::stoul(argv[i + 1]));
    }
    if (argc < 2) {
        std::fputs("usage: latency_bench FILE [--packet N] [--every N] [--rounds N] [--limit N] [--only V]\n",
                   stderr);
        return 2;
    }
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof(set), &set);
    Input input = load(argv[1], per_packet, limit);
    const struct {
        const char* name;
        long every;
    } variants[] = {{"without", -1}, {"off", 0}, {"on", every}};
    std::vector<double> times[3];
    for (int round = 0; round < rounds; ++round)
        for (int i = 0; i < 3; ++i) {
            const int v = (i + round) % 3;  // none of them always comes after the same one
            if (only.empty() || only == variants[v].name) times[v].push_back(run(input, variants[v].every));
        }
    std::printf("{\"packets\":%zu", input.packets);
    for (int v = 0; v < 3; ++v) {
        std::printf(",\"%s\":[", variants[v].name);
        for (std::size_t i = 0; i < times[v].size(); ++i)
            std::printf("%s%.3f", i == 0 ? "" : ",", times[v][i]);
        std::printf("]");
    }
    std::printf("}\n");
    return 0;
}
