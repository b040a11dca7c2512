// Decode and books over a BinaryFILE, one thread: nanoseconds per message, as one line of JSON.
//   book_bench generate [--orders N] [--symbols N] [--levels N] [--packet N]   steady state of a generated
//   flow book_bench FILE [--packet N] [--publish] [--mbo] [--repeat N] [--limit MESSAGES]
// --packet N: messages handed over at a time (4096: look-ahead over a file). --burst: as the receive loop
// does with packets that are there already, 64 messages are announced before the first is handed over.
// --publish: mbp-1 and trades to a ring of 64 MiB.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "book/memory.hpp"
#include "decode/fields.hpp"
#include "order_flow.hpp"
#include "publish/ring_writer.hpp"
#include "record/buffer_publisher.hpp"
#include "record/normalizer.hpp"

namespace {

using namespace fh;

// Processor time of this thread: the machine may be shared, waiting for the processor is not the books' cost.
double cpu_ns() {
    struct timespec ts {};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return static_cast<double>(ts.tv_sec) * 1e9 + static_cast<double>(ts.tv_nsec);
}

struct File {
    const std::uint8_t* data;
    std::size_t size;

    explicit File(const std::vector<std::uint8_t>& bytes) : data(bytes.data()), size(bytes.size()) {}
    explicit File(const char* path) {
        const int fd = ::open(path, O_RDONLY);
        struct stat st {};
        if (fd < 0 || ::fstat(fd, &st) != 0) {
            std::perror(path);
            std::exit(2);
        }
        size = static_cast<std::size_t>(st.st_size);
        data = static_cast<const std::uint8_t*>(
            ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0));
        ::close(fd);
        std::uint64_t sum = 0;  // every page is in the page table before the clock starts
        for (std::size_t i = 0; i < size; i += 4096) sum += data[i];
        if (sum == 1) std::fputs("", stderr);
    }
};

struct Options {
    std::size_t packet = 4096;
    std::size_t limit = ~std::size_t{0};
    bool burst = false;
    bool publish = false;
    bool mbo = false;
    int repeat = 1;
    bench::Flow flow;
};

// The next messages of the file, at most `out.size()`; moves `p` behind them.
std::size_t cut(const std::uint8_t*& p, const std::uint8_t* end, std::span<Message> out) {
    std::size_t count = 0;
    while (count < out.size() && p + 2 <= end) {
        const std::uint16_t length = decode::be16(p);
        if (length == 0 || p + 2 + length > end) {
            p = end;
            break;
        }
        out[count++] = {p + 2, length};
        p += 2 + length;
    }
    return count;
}

template <class Normalizer>
std::size_t run(Normalizer& normalizer, const File& file, const Options& options) {
    std::vector<Message> messages(options.burst ? lookahead_messages : options.packet);
    const std::uint8_t* p = file.data;
    const std::uint8_t* end = p + file.size;
    std::size_t total = 0;
    while (p + 2 <= end && total < options.limit) {
        const std::span<const Message> cut_out(messages.data(), cut(p, end, messages));
        if (!options.burst) {
            normalizer.on_messages(total + 1, cut_out, 0, TimestampKind::none);
        } else {
            normalizer.on_lookahead(cut_out);
            for (std::size_t at = 0; at < cut_out.size(); at += options.packet) {
                const auto packet = cut_out.subspan(at, std::min(options.packet, cut_out.size() - at));
                normalizer.on_messages(total + at + 1, packet, 0, TimestampKind::none);
            }
        }
        total += cut_out.size();
    }
    return total;
}

// Best bids and offers of all books in one number, to see that two runs agree.
template <class Normalizer>
std::uint64_t checksum(Normalizer& normalizer) {
    std::uint64_t sum = 0;
    for (std::uint32_t id = 0; id < book::table_instruments; ++id) {
        book::Block& block = normalizer.books().block(static_cast<std::uint16_t>(id));
        for (unsigned s = 0; s < 2; ++s) {
            const book::Node node = block.side(s);
            if (node.size() == 0) continue;
            sum = sum * 0x9E3779B97F4A7C15ull + node.key_at(0);
            sum = sum * 0x9E3779B97F4A7C15ull + node.level_at(0).size;
        }
    }
    return sum;
}

template <class Publisher>
void measure(Publisher& publisher, const File& file, const Options& options) {
    struct rusage before {};
    ::getrusage(RUSAGE_SELF, &before);
    book::Reserved<std::byte> table(book::books_file_size, book::Pages::huge);
    record::Normalizer<Publisher> normalizer(publisher, table.data(), {});
    normalizer.set_state(FeedState::live);
    const double start = cpu_ns();
    const std::size_t messages = run(normalizer, file, options);
    const double ns = cpu_ns() - start;
    struct rusage after {};
    ::getrusage(RUSAGE_SELF, &after);
    const FeedCounters counters = normalizer.counters();
    std::printf(
        "{\"packet\": %zu, \"publish\": %s, \"messages\": %zu, \"ns_per_message\": %.2f, \"orders\": %llu, "
        "\"unknown_orders\": %llu, \"refused_orders\": %llu, \"rss_kib\": %ld, \"checksum\": %llu}\n",
        options.packet, options.publish ? "true" : "false", messages, ns / static_cast<double>(messages),
        static_cast<unsigned long long>(counters.orders),
        static_cast<unsigned long long>(counters.unknown_orders),
        static_cast<unsigned long long>(counters.refused_orders), after.ru_maxrss - before.ru_maxrss,
        static_cast<unsigned long long>(checksum(normalizer)));
    std::fflush(stdout);
}

void measure_published(const File& file, const Options& options) {
    constexpr std::uint64_t capacity = std::uint64_t{64} << 20;
    book::Reserved<std::byte> memory(ring_file_size(capacity), book::Pages::small);
    std::memset(memory.data(), 0, ring_file_size(capacity));
    const std::uint32_t mask =
        options.mbo ? dbn::schema_bit(dbn::Schema::mbo)
                    : dbn::schema_bit(dbn::Schema::mbp_1) | dbn::schema_bit(dbn::Schema::trades);
    publish::RingWriter ring(memory.data(), capacity, 1, mask);
    measure(ring, file, options);
}

// Books filled first, without the clock; then two million messages of adds and deletions.
void measure_generated(const Options& options) {
    bench::Generator generator(options.flow);
    book::Reserved<std::byte> table(book::books_file_size, book::Pages::huge);
    record::NullPublisher nobody;
    record::Normalizer<record::NullPublisher> normalizer(nobody, table.data(), {});
    std::vector<std::uint8_t> bytes;
    while (!generator.filled()) {
        bytes.clear();
        generator.append(bytes, 100'000);
        run(normalizer, File(bytes), options);
    }
    for (int i = 0; i < 2; ++i) {  // the first time warms up
        bytes.clear();
        generator.append(bytes, 2'000'000);
        const double start = cpu_ns();
        const std::size_t messages = run(normalizer, File(bytes), options);
        const double ns = (cpu_ns() - start) / static_cast<double>(messages);
        const FeedCounters counters = normalizer.counters();
        if (i == 0) continue;
        std::printf(
            "{\"orders\": %llu, \"symbols\": %llu, \"levels\": %llu, \"ns_per_message\": %.2f, "
            "\"unknown_orders\": %llu}\n",
            static_cast<unsigned long long>(counters.orders),
            static_cast<unsigned long long>(options.flow.symbols),
            static_cast<unsigned long long>(options.flow.levels), ns,
            static_cast<unsigned long long>(counters.unknown_orders));
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) {
        std::fputs(
            "usage: book_bench FILE [--packet N] [--publish] [--mbo] [--repeat N] [--limit MESSAGES]\n",
            stderr);
        return 2;
    }
    Options options;
    for (int i = 2; i < argc; ++i) {
        const std::string name = argv[i];
        if (name == "--publish") options.publish = true;
        if (name == "--burst") options.burst = true;
        if (name == "--mbo") options.publish = options.mbo = true;
        if (i + 1 == argc) break;
        if (name == "--packet") options.packet = std::strtoull(argv[++i], nullptr, 10);
        if (name == "--repeat") options.repeat = std::atoi(argv[++i]);
        if (name == "--orders") options.flow.orders = std::strtoull(argv[++i], nullptr, 10);
        if (name == "--symbols") options.flow.symbols = std::strtoull(argv[++i], nullptr, 10);
        if (name == "--levels") options.flow.levels = std::strtoull(argv[++i], nullptr, 10);
        if (name == "--limit") options.limit = std::strtoull(argv[++i], nullptr, 10);
    }
    if (std::string(argv[1]) == "generate") {
        measure_generated(options);
        return 0;
    }
    const File file(argv[1]);
    for (int i = 0; i < options.repeat; ++i) {
        if (options.publish) {
            measure_published(file, options);
        } else {
            record::NullPublisher nobody;
            measure(nobody, file, options);
        }
    }
    return 0;
}
