// The receive path with no sender to wait for: packets of one message each that lie in memory, through the
// receive loop, frame and sequence on one core. One JSON object on stdout: nanoseconds a packet of each round
// and variant, the variants interleaved.
//   receive_bench [--packets N] [--rounds N] [--cpu N]
#include <netinet/in.h>
#include <sched.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "frame/moldudp64.hpp"
#include "receive/device_lines.hpp"
#include "receive/loop.hpp"
#include "receive/memory.hpp"
#include "sequence/arbiter.hpp"

namespace {

using namespace fh;

constexpr const char* session = "MEMORYBENC";
constexpr std::size_t message_bytes = 36;  // an ITCH Add Order
constexpr std::size_t payload_bytes = frame::mold_header_bytes + 2 + message_bytes;
constexpr std::size_t frame_bytes = 14 + 20 + 8 + payload_bytes;
constexpr const char* group = "239.77.1.1";
constexpr std::uint16_t port = 30001;
constexpr std::size_t batch = 32;

// Ethernet frames that lie in memory: what a bypass mode does after its ring. Without `intact` it looks at
// the checksums, as where no device has.
class FrameSource {
  public:
    FrameSource(const std::vector<std::uint8_t>& frames, bool intact) : frames_(frames), intact_(intact) {
        table_.add(0, {"A", group, port, "", ""});
    }
    std::size_t poll(std::span<Datagram> out) {
        std::size_t count = 0;
        const std::size_t room = std::min(out.size(), batch);
        for (; count < room && at_ < frames_.size(); at_ += frame_bytes)
            count += table_.take(frames_.data() + at_, frame_bytes, intact_, out[count], counters_) ? 1 : 0;
        return count;
    }
    std::span<const int> fds() const { return {}; }
    std::size_t line_count() const { return 1; }
    receive::SourceStats stats(std::size_t) const { return {}; }
    const ReceiveCounters& counters() const { return counters_; }
    void refresh_stats() {}
    void rewind() { at_ = 0; }
    bool exhausted() const { return at_ == frames_.size(); }

  private:
    const std::vector<std::uint8_t>& frames_;
    receive::LineTable table_;
    ReceiveCounters counters_;
    std::size_t at_ = 0;
    bool intact_;
};
static_assert(receive::Source<FrameSource>);

struct Sink {
    std::uint64_t messages = 0;
    void on_messages(std::uint64_t, std::span<const Message> batch_of, std::int64_t, TimestampKind) {
        messages += batch_of.size();
    }
    void on_clear(std::uint64_t, std::int64_t) {}
    void on_event(const Event&) {}
    void send_request(std::size_t, std::span<const std::uint8_t, 20>) {}
};

class Handler {
  public:
    explicit Handler(std::size_t lines) : arbiter_(settings(lines), sink_, counters_) {}
    std::size_t look_ahead(std::span<const Datagram> datagrams) { return arbiter_.look_ahead(datagrams); }
    void on_datagram(const Datagram& d, std::int64_t now_ns) {
        arbiter_.on_packet(d.line, d.data, d.length, d.ts_recv_ns, d.timestamp_kind, now_ns);
    }
    void on_timer(std::int64_t now_ns) { arbiter_.on_timer(now_ns); }
    std::int64_t next_deadline() const { return arbiter_.next_deadline(); }
    void end_turn(std::int64_t, std::int64_t) {}
    std::uint64_t messages() const { return sink_.messages; }

  private:
    static sequence::Settings settings(std::size_t lines) {
        sequence::Settings out;
        out.lines = lines;
        out.hold_messages = 65536;
        return out;
    }
    Sink sink_;
    Counters counters_;
    sequence::Arbiter<Sink> arbiter_;
};

void put_payload(std::uint8_t* out, std::uint64_t sequence) {
    frame::encode_mold_header(out, session, sequence, 1);
    frame::store_be16(out + frame::mold_header_bytes, message_bytes);
    std::memset(out + frame::mold_header_bytes + 2, 'A', message_bytes);
}

std::vector<std::uint8_t> make_frames(std::size_t packets) {
    std::vector<std::uint8_t> out(packets * frame_bytes);
    for (std::size_t i = 0; i < packets; ++i) {
        std::uint8_t* at = out.data() + i * frame_bytes;
        at[12] = 0x08;
        std::uint8_t* ip = at + 14;
        ip[0] = 0x45;
        frame::store_be16(ip + 2, 20 + 8 + payload_bytes);
        ip[8] = 1;
        ip[9] = IPPROTO_UDP;
        ip[12] = 10;
        const in_addr to = receive::parse_address(group);
        std::memcpy(ip + 16, &to, sizeof(to));
        frame::store_be16(ip + 20 + 2, port);
        frame::store_be16(ip + 20 + 4, 8 + payload_bytes);
        put_payload(ip + 28, i + 1);
        std::uint16_t sum =
            static_cast<std::uint16_t>(~frame::detail::fold(frame::detail::add_words(0, ip, 20)));
        std::memcpy(ip + 10, &sum, 2);
        std::uint8_t pseudo[12] = {};
        std::memcpy(pseudo, ip + 12, 8);
        pseudo[9] = IPPROTO_UDP;
        frame::store_be16(pseudo + 10, 8 + payload_bytes);
        const std::uint64_t head = frame::detail::add_words(0, pseudo, 12);
        sum = static_cast<std::uint16_t>(
            ~frame::detail::fold(frame::detail::add_words(head, ip + 20, 8 + payload_bytes)));
        std::memcpy(ip + 20 + 6, &sum, 2);
    }
    return out;
}

template <class Source>
double ns_per_packet(Source& source, std::size_t lines, std::size_t packets, std::uint64_t messages) {
    source.rewind();
    receive::RequestSockets none({});
    Handler handler(lines);
    receive::ReceiveLoop<Source, Handler> loop(source, none, handler, true);
    const std::int64_t start_ns = receive::read_clock(CLOCK_MONOTONIC);
    while (!source.exhausted()) loop.turn();
    const std::int64_t end_ns = receive::read_clock(CLOCK_MONOTONIC);
    if (handler.messages() != messages) std::abort();  // all of them, or the figure means nothing
    return static_cast<double>(end_ns - start_ns) / static_cast<double>(packets);
}

}  // namespace

int main(int argc, char** argv) {
    std::size_t packets = 2'000'000;
    int rounds = 11;
    unsigned cpu = 1;
    for (int i = 1; i + 1 < argc; i += 2) {
        const std::string option = argv[i];
        const auto value = std::stoul(argv[i + 1]);
        if (option == "--packets") packets = value;
        if (option == "--rounds") rounds = static_cast<int>(value);
        if (option == "--cpu") cpu = static_cast<unsigned>(value);
    }
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof(set), &set);

    receive::MemorySource one(1, batch), two(2, batch), burst_of_one(1, 1);
    std::vector<std::uint8_t> payload(payload_bytes);
    for (std::size_t i = 0; i < packets; ++i) {
        put_payload(payload.data(), i + 1);
        one.add(0, payload);
        burst_of_one.add(0, payload);
        if (i % 2 == 0) {  // as many packets in all: half of them, on both lines
            put_payload(payload.data(), i / 2 + 1);
            two.add(0, payload);
            two.add(1, payload);
        }
    }
    const std::vector<std::uint8_t> frames = make_frames(packets);
    FrameSource intact(frames, true), checked(frames, false);
    std::vector<double> times[5];
    for (int round = 0; round < rounds; ++round) {
        times[0].push_back(ns_per_packet(one, 1, packets, packets));
        times[1].push_back(ns_per_packet(burst_of_one, 1, packets, packets));
        times[2].push_back(ns_per_packet(two, 2, packets + packets % 2, (packets + 1) / 2));
        times[3].push_back(ns_per_packet(intact, 1, packets, packets));
        times[4].push_back(ns_per_packet(checked, 1, packets, packets));
    }
    constexpr const char* names[] = {"datagrams", "datagrams_alone", "datagrams_two_lines", "frames",
                                     "frames_checksums"};
    std::printf("{");
    for (std::size_t v = 0; v < 5; ++v) {
        std::printf("%s\"%s\":[", v == 0 ? "" : ",", names[v]);
        for (std::size_t i = 0; i < times[v].size(); ++i)
            std::printf("%s%.3f", i == 0 ? "" : ",", times[v][i]);
        std::printf("]");
    }
    std::printf("}\n");
    return 0;
}
