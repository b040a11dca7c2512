// A packet in memory to its record in the hands of a reader in another process: the whole way (frame,
// sequence, decode, book, record, publish) but the network. One JSON array of nanoseconds a packet on stdout.
//   path_bench FILE [--packets N] [--gap-us N]
// FILE: a BinaryFILE. Each packet carries one message; a stamp is taken before the packet enters, the reader
// takes another when the message's mbp-1 record is whole in its own memory. Pinned: writer on cpu 0, reader
// on cpu 1.
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "book/memory.hpp"
#include "book/table_writer.hpp"
#include "decode/fields.hpp"
#include "frame/moldudp64.hpp"
#include "pipeline.hpp"
#include "publish/mapping.hpp"
#include "publish/ring_reader.hpp"
#include "publish/ring_writer.hpp"
#include "record/normalizer.hpp"

namespace {

using namespace fh;

constexpr std::uint64_t ring_bytes = 64u << 20;
constexpr const char* session = "PATHBENCH1";

std::int64_t monotonic_ns() {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1'000'000'000 + time.tv_nsec;
}

void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

template <class T>
T* shared(std::size_t count) {
    void* memory =
        mmap(nullptr, count * sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    std::memset(memory, 0, count * sizeof(T));
    return static_cast<T*>(memory);
}

struct Shared {
    std::atomic<int> reader_ready;
    std::atomic<int> done;
};

struct Host {
    publish::RingWriter& ring;
    void on_event(const Event& event) {
        if (event.type == EventType::state) ring.set_state(event.state);
    }
    void send_request(std::size_t, std::span<const std::uint8_t, 20>) {}
};

// The reader stamps the newest record's number.
void read(const std::byte* memory, Shared* shared_state, std::int64_t* seen_ns, std::size_t packets) {
    pin(1);
    publish::RingReader reader(memory);
    reader.skip_to_tail();
    shared_state->reader_ready = 1;
    while (shared_state->done.load(std::memory_order_relaxed) == 0) {
        reader.poll([&](const RecordHeader& header, const std::byte*) {
            if (header.schema == static_cast<std::uint8_t>(dbn::Schema::mbp_1) && header.sequence <= packets)
                seen_ns[header.sequence] = monotonic_ns();
        });
    }
    _exit(0);
}

}  // namespace

int main(int argc, char** argv) {
    std::size_t packets = 200'000;
    std::int64_t gap_ns = 3000;
    const char* path = nullptr;
    for (int i = 1; i < argc; ++i) {
        const std::string option = argv[i];
        if (option == "--packets" && i + 1 < argc)
            packets = std::stoull(argv[++i]);
        else if (option == "--gap-us" && i + 1 < argc)
            gap_ns = std::stoll(argv[++i]) * 1000;
        else
            path = argv[i];
    }
    const int fd = path != nullptr ? open(path, O_RDONLY) : -1;
    struct stat status {};
    if (fd < 0 || fstat(fd, &status) != 0) {
        std::fprintf(stderr, "usage: path_bench FILE [--packets N] [--gap-us N]\n");
        return 2;
    }
    const auto size = static_cast<std::size_t>(status.st_size);
    const auto* file =
        static_cast<const std::uint8_t*>(mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0));

    auto* memory = shared<std::byte>(ring_file_size(ring_bytes));
    auto* books = shared<std::byte>(book::books_file_size);
    auto* seen_ns = shared<std::int64_t>(packets + 1);
    auto* state = shared<Shared>(1);
    publish::RingWriter ring(memory, ring_bytes, 1,
                             dbn::schema_bit(dbn::Schema::mbp_1) | dbn::schema_bit(dbn::Schema::trades));
    const pid_t child = fork();
    if (child == 0) read(memory, state, seen_ns, packets);
    pin(0);

    using Normalizer = record::Normalizer<publish::RingWriter>;
    Normalizer normalizer(ring, books, {});
    Host host{ring};
    Counters counters;
    Pipeline<Normalizer, Host> pipeline(sequence::Settings{}, counters, normalizer, host);
    while (state->reader_ready == 0) {
    }

    std::vector<std::int64_t> sent_ns(packets + 1);
    std::uint8_t packet[2048];
    const std::uint8_t* at = file;
    std::size_t sent = 0;
    std::int64_t next_ns = monotonic_ns();
    while (sent < packets && at + 2 < file + size) {
        const std::uint16_t length = decode::be16(at);
        if (length == 0) break;
        ++sent;
        frame::encode_mold_header(packet, session, sent, 1);
        std::memcpy(packet + frame::mold_header_bytes, at, length + 2u);
        at += length + 2u;
        next_ns += gap_ns;
        std::int64_t now = monotonic_ns();
        while (now < next_ns) now = monotonic_ns();
        next_ns = now;
        sent_ns[sent] = now;
        pipeline.arbiter().on_packet(0, packet, frame::mold_header_bytes + length + 2u, now,
                                     TimestampKind::user, now);
    }
    usleep(10'000);  // what is in flight arrives
    state->done = 1;
    waitpid(child, nullptr, 0);
    std::printf("[");
    const char* comma = "";
    for (std::size_t i = 1; i <= sent; ++i) {
        if (seen_ns[i] == 0) continue;  // a message that changes no best level has no mbp-1 record
        std::printf("%s%lld", comma, static_cast<long long>(seen_ns[i] - sent_ns[i]));
        comma = ",";
    }
    std::printf("]\n");
    return 0;
}
