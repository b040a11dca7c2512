// The loader's thread against the receive thread's calls, with servers that are good, slow, cut off, silent
// or refuse; and a third thread that asks for failures. Exit status 0 when every snapshot that was said to be
// ready was whole, nothing was handed over that nobody wanted, and no descriptor was left.
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "book/audit.hpp"
#include "snapshot/image_writer.hpp"
#include "snapshot/loader.hpp"

namespace {

using namespace fh;
using snapshot::Loader;

constexpr unsigned orders = 5000;
constexpr unsigned loads = 50;
constexpr book::BookLimits limits{1u << 14, 16, 1u << 10};
std::atomic<int> failures{0};

void check(bool good, const char* what) {
    if (good) return;
    std::fprintf(stderr, "%s\n", what);
    ++failures;
}

std::string big_endian(std::uint64_t value, unsigned bytes) {
    std::string out;
    while (bytes-- > 0) out += static_cast<char>(value >> (8 * bytes));
    return out;
}

std::string image() {
    snapshot::ImageWriter writer;
    for (std::uint64_t i = 1; i <= orders; ++i) {
        const std::string message = "A" + big_endian(1 + i % 50, 2) + big_endian(0, 8) + big_endian(i, 8) +
                                    (i % 2 != 0 ? "B" : "S") + big_endian(100, 4) + "STOCK" +
                                    std::to_string(100 + i % 50) + big_endian(10'000 + i % 300, 4);
        writer.apply({reinterpret_cast<const std::uint8_t*>(message.data()), 36});
    }
    const std::vector<std::uint8_t> packets = writer.image();
    return big_endian(31, 2) + "A      DAY1" + "                   1" +
           std::string(packets.begin(), packets.end());
}

// One connection after the other; what becomes of each goes by turns.
class Server {
  public:
    Server() : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
        sockaddr_in address{AF_INET, 0, {htonl(INADDR_LOOPBACK)}, {}};
        socklen_t size = sizeof address;
        check(::bind(socket_, reinterpret_cast<sockaddr*>(&address), size) == 0, "bind");
        check(::listen(socket_, 64) == 0, "listen");
        ::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size);
        port_ = ntohs(address.sin_port);
        thread_ = std::thread([this] { serve(); });
    }
    ~Server() {
        ::shutdown(socket_, SHUT_RDWR);
        thread_.join();
        ::close(socket_);
    }
    std::uint16_t port() const { return port_; }

  private:
    void serve() {
        for (unsigned turn = 0;; ++turn) {
            const int client = ::accept(socket_, nullptr, nullptr);
            if (client < 0) return;
            char login[64];
            [[maybe_unused]] const ssize_t got = ::recv(client, login, sizeof login, 0);
            answer(client, turn);
            ::close(client);
        }
    }
    void answer(int client, unsigned turn) {
        switch (turn % 5) {
            case 0:  // whole
                return send(client, image_);
            case 1:  // in small pieces, and cut before the end
                for (std::size_t at = 0; at + 700 < image_.size(); at += 701)
                    send(client, image_.substr(at, 701));
                return;
            case 2:  // refused, by bytes that are no text
                return send(client, big_endian(2, 2) + "J\xFF");
            case 3:  // silent, until the client goes
                send(client, image_.substr(0, 1000));
                wait_for_end(client);
                return;
            default:
                send(client, image_);
                wait_for_end(client);  // for its logout
        }
    }
    static void send(int client, const std::string& bytes) {
        std::size_t at = 0;
        while (at < bytes.size()) {
            const ssize_t sent = ::send(client, bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
            if (sent <= 0) return;
            at += static_cast<std::size_t>(sent);
        }
    }
    static void wait_for_end(int client) {
        char bytes[64];
        while (::recv(client, bytes, sizeof bytes, 0) > 0) {
        }
    }

    int socket_;
    std::uint16_t port_ = 0;
    const std::string image_ = image();
    std::thread thread_;
};

std::size_t descriptors() {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
    return count;
}

// What the receive thread does with a snapshot.
void take(Loader& loader, book::BookSet& books) {
    check(loader.number() == orders + 1, "number of the snapshot");
    check(loader.books().live_orders() == orders, "orders of the snapshot");
    check(book::audit(loader.books()).empty(), "books of the snapshot");
    books.swap_orders(loader.books());
}

struct Counts {
    unsigned ready = 0, failed = 0, dropped = 0;
};

void load(Loader& loader, book::BookSet& books, unsigned i, Counts& counts) {
    loader.start(i % 2 != 0 ? "DAY1      " : "      DAY1", 0);
    if (i % 7 == 3) {  // another session begins meanwhile
        loader.start("DAY2      ", 0);
        loader.start("DAY1      ", 0);
    }
    for (unsigned turns = 0;; ++turns) {
        const auto result = loader.result();
        if (result == Loader::Result::ready) {
            ++counts.ready;
            take(loader, books);
        } else if (result == Loader::Result::failed) {
            ++counts.failed;
        } else if (turns < 100 || (turns < 1500 && i % 3 != 0)) {
            std::this_thread::sleep_for(std::chrono::microseconds(100));
            continue;
        } else {
            ++counts.dropped;  // not wanted any more
        }
        return loader.release();
    }
}

}  // namespace

int main() {
    const Server server;
    const std::size_t before = descriptors();
    Counts counts;
    book::Reserved<std::byte> file(book::books_file_size, book::Pages::small);
    book::BookSet books(file.data(), limits);
    for (unsigned round = 0; round < 2; ++round) {
        std::optional<Loader> loader(
            std::in_place, snapshot::LoaderSettings{"127.0.0.1", server.port(), "user", "secret", limits});
        std::atomic<bool> over{false};
        unsigned told = 0;
        std::thread supervisor([&] {
            while (!over.load()) told += loader->take_failure().empty() ? 0 : 1;
        });
        for (unsigned i = 0; i < loads / 2; ++i) load(*loader, books, i, counts);
        loader->start("DAY1      ", 0);  // it ends in the middle of a load
        over.store(true);
        supervisor.join();
        loader.reset();
        check(told > 0, "no failure was told");
    }
    // The server closes its end a moment later.
    for (unsigned i = 0; i < 5000 && descriptors() != before; ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    check(descriptors() == before, "descriptors were left");
    std::printf("%u ready %u failed %u dropped\n", counts.ready, counts.failed, counts.dropped);
    return failures.load() == 0 ? 0 : 1;
}
