// Both ends of a veth pair: a sender that stamps each packet with the processor's time stamp counter, and a
// receiver in any receive mode. The receiver prints one line "ready", then one JSON object.
//   modes_bench send ADDRESS PACKETS BYTES RATE        RATE in packets a second; 0 = as fast as it goes
//   modes_bench receive INTERFACE SECONDS [KEY=VALUE]...
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <x86intrin.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <variant>
#include <vector>

#include "receive/any_source.hpp"
#include "receive/clock.hpp"

namespace {

using namespace fh;

constexpr const char* group = "239.77.1.1";
constexpr std::uint16_t port = 30001;
constexpr std::size_t batch = 32;
constexpr std::uint64_t the_end = ~std::uint64_t{0};

struct Stamp {
    std::uint64_t tsc;  // the_end: nothing follows
};

std::int64_t monotonic_ns() { return receive::read_clock(CLOCK_MONOTONIC); }

// Counts a nanosecond, over 50 ms.
double measure_tsc_per_ns() {
    const std::int64_t start_ns = monotonic_ns();
    const std::uint64_t start = __rdtsc();
    while (monotonic_ns() - start_ns < 50'000'000) {
    }
    return static_cast<double>(__rdtsc() - start) / static_cast<double>(monotonic_ns() - start_ns);
}

void pin(unsigned cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof(set), &set);
    const sched_param fifo{50};
    sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &fifo);  // as root; both ends have a deadline
}

int send(const char* address, std::size_t packets, std::size_t bytes, double rate) {
    const receive::Descriptor fd(socket(AF_INET, SOCK_DGRAM, 0));
    const in_addr from = receive::parse_address(address);
    receive::set_option(fd.get(), IPPROTO_IP, IP_MULTICAST_IF, from);
    receive::set_option(fd.get(), SOL_SOCKET, SO_SNDBUF, 8 << 20);
    sockaddr_in to{AF_INET, htons(port), receive::parse_address(group), {}};
    receive::require(connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0, "connect");
    const double per_ns = measure_tsc_per_ns();
    pin(0);
    std::vector<std::array<std::uint8_t, 2048>> buffers(batch);
    std::array<mmsghdr, batch> headers{};
    std::array<iovec, batch> vectors{};
    for (std::size_t i = 0; i < batch; ++i) {
        vectors[i] = {buffers[i].data(), bytes};
        headers[i].msg_hdr.msg_iov = &vectors[i];
        headers[i].msg_hdr.msg_iovlen = 1;
    }
    const std::size_t step = rate > 0 ? 1 : batch;
    const std::uint64_t gap = rate > 0 ? static_cast<std::uint64_t>(1e9 / rate * per_ns) : 0;
    const std::uint64_t begin = __rdtsc();
    const auto deadline = begin + static_cast<std::uint64_t>(60e9 * per_ns);
    for (std::size_t sent = 0; sent < packets;) {
        while (gap != 0 && __rdtsc() - begin < sent * gap) {
        }
        const std::size_t count = std::min(step, packets - sent);
        for (std::size_t i = 0; i < count; ++i) {
            const Stamp stamp{__rdtsc()};
            std::memcpy(buffers[i].data(), &stamp, sizeof(stamp));
        }
        const int done = sendmmsg(fd.get(), headers.data(), static_cast<unsigned>(count), 0);
        if (done > 0) sent += static_cast<std::size_t>(done);
        if (__rdtsc() > deadline) return 1;
    }
    const double took_ns = static_cast<double>(__rdtsc() - begin) / per_ns;
    const Stamp stamp{the_end};
    for (int i = 0; i < 50; ++i) {  // more than a receiver loses at the end of a burst
        std::memcpy(buffers[0].data(), &stamp, sizeof(stamp));
        ::send(fd.get(), buffers[0].data(), bytes, 0);
        timespec pause{0, 10'000'000};
        nanosleep(&pause, nullptr);
    }
    std::printf("{\"packets_per_s\":%.0f}\n", static_cast<double>(packets) / took_ns * 1e9);
    return 0;
}

double cpu_ns() {
    rusage usage{};
    getrusage(RUSAGE_THREAD, &usage);
    const auto ns = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_usec) * 1e3;
    };
    return ns(usage.ru_utime) + ns(usage.ru_stime);
}

class Receiver {
  public:
    explicit Receiver(double seconds) : per_ns_(measure_tsc_per_ns()) {
        latencies_.reserve(4'000'000);
        deadline_ns_ = monotonic_ns() + static_cast<std::int64_t>(seconds * 1e9);
    }

    template <class S>
    void run(S& source, bool spin) {
        std::vector<pollfd> waited;
        for (const int fd : source.fds()) waited.push_back({fd, POLLIN, 0});
        std::array<Datagram, batch> datagrams;
        unsigned turn = 0;
        while (!ended_) {
            const std::uint64_t before = __rdtsc();
            const std::size_t count = source.poll(datagrams);
            const std::uint64_t after = __rdtsc();
            if (count != 0) {
                busy_ += after - before;
                take({datagrams.data(), count}, after);
            } else if (!spin) {
                const timespec timeout{0, 50'000'000};
                ppoll(waited.data(), waited.size(), &timeout, nullptr);
            }
            if (++turn % 1024 == 0 || !spin) ended_ = ended_ || monotonic_ns() > deadline_ns_;
        }
    }

    void print(std::uint64_t drops) {
        std::ranges::sort(latencies_);
        const auto count = static_cast<double>(latencies_.size());
        const auto at = [&](double share) {
            return latencies_.empty()
                       ? 0.0
                       : static_cast<double>(latencies_[static_cast<std::size_t>(share * (count - 1))]) /
                             per_ns_;
        };
        const double span_ns = static_cast<double>(last_ - first_) / per_ns_;
        std::printf(
            "{\"received\":%zu,\"drops\":%llu,\"packets_per_s\":%.0f,\"busy_ns\":%.1f,\"cpu_ns\":%.1f,"
            "\"min_ns\":%.0f,\"p50_ns\":%.0f,\"p90_ns\":%.0f,\"p99_ns\":%.0f}\n",
            latencies_.size(), static_cast<unsigned long long>(drops), count / span_ns * 1e9,
            static_cast<double>(busy_) / per_ns_ / count, (cpu_last_ns_ - cpu_first_ns_) / count, at(0),
            at(0.5), at(0.9), at(0.99));
    }

  private:
    void take(std::span<const Datagram> datagrams, std::uint64_t now) {
        for (const Datagram& datagram : datagrams) {
            Stamp stamp;
            std::memcpy(&stamp, datagram.data, sizeof(stamp));
            if (stamp.tsc == the_end) {
                if (!ended_) cpu_last_ns_ = cpu_ns();
                ended_ = true;
                return;
            }
            if (latencies_.empty()) {
                first_ = now;
                cpu_first_ns_ = cpu_ns();
            }
            last_ = now;
            latencies_.push_back(now - stamp.tsc);
        }
    }

    double per_ns_;
    std::int64_t deadline_ns_ = 0;
    std::vector<std::uint64_t> latencies_;
    std::uint64_t busy_ = 0, first_ = 0, last_ = 0;
    double cpu_first_ns_ = 0, cpu_last_ns_ = 0;
    bool ended_ = false;
};

receive::ReceiveSettings settings_of(const char* device, int argc, char** argv) {
    receive::ReceiveSettings out;
    out.dpdk.cpu = 1;
    for (int i = 0; i < argc; ++i) {
        const std::string word = argv[i];
        const auto equals = word.find('=');
        const std::string key = word.substr(0, equals);
        const std::string value = equals == std::string::npos ? "" : word.substr(equals + 1);
        if (key == "mode")
            out.mode = value;
        else if (key == "spin")
            out.spin = value == "true";
        else if (key == "xdp.attach")
            out.xdp.attach = value;
        else if (key == "xdp.busy_poll")
            out.xdp.busy_poll = value == "true";
        else if (key == "dpdk.plugin")
            out.dpdk.plugin = value;
        else if (key == "dpdk.port")  // of the one device there is
            out.dpdk.ports = {{device, value}};
        else {
            std::fprintf(stderr, "modes_bench: no setting %s\n", key.c_str());
            std::exit(2);
        }
    }
    return out;
}

int receive_all(const char* interface, double seconds, const receive::ReceiveSettings& settings) {
    const std::vector<receive::LineSettings> lines{{"A", group, port, interface, ""}};
    receive::AnySource source = receive::open_source(lines, settings);
    Receiver receiver(seconds);
    pin(1);
    std::printf("ready\n");
    std::fflush(stdout);
    const std::uint64_t drops = std::visit(
        [&](auto& one) {
            receiver.run(one, settings.spin);
            one.refresh_stats();
            return std::max(one.stats(0).kernel_drops, one.counters().device_drops);
        },
        source);
    receiver.print(drops);
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string what = argc > 1 ? argv[1] : "";
    try {
        if (what == "send" && argc == 6)
            return send(argv[2], std::stoul(argv[3]), std::stoul(argv[4]), std::stod(argv[5]));
        if (what == "receive" && argc >= 4)
            return receive_all(argv[2], std::stod(argv[3]), settings_of(argv[2], argc - 4, argv + 4));
    } catch (const std::exception& error) {
        std::fprintf(stderr, "modes_bench: %s\n", error.what());
        return 1;
    }
    std::fprintf(stderr,
                 "usage: modes_bench send ADDRESS PACKETS BYTES RATE\n"
                 "       modes_bench receive INTERFACE SECONDS [KEY=VALUE]...\n");
    return 2;
}
