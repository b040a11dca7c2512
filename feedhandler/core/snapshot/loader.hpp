// Loads snapshots beside the receive thread: a thread of its own reads one over TCP into books on private
// memory, and hands them over whole or not at all.
#pragma once

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>

#include "receive/clock.hpp"
#include "receive/multicast.hpp"
#include "snapshot/download.hpp"

namespace fh::snapshot {

struct LoaderSettings {
    std::string address;  // IPv4
    std::uint16_t port = 0;
    std::string username;
    std::string password;
    book::BookLimits limits;
    std::int64_t timeout_ns = 600'000'000'000;  // of a whole load
};

class Loader {
  public:
    enum class Result : std::uint8_t { none, ready, failed };

    explicit Loader(const LoaderSettings& settings) : settings_(settings), thread_([this] { run(); }) {}
    Loader(const Loader&) = delete;
    Loader& operator=(const Loader&) = delete;
    ~Loader() {
        stop_.store(true);
        wake();
        thread_.join();
    }

    // ---- receive thread

    // Loads a snapshot for the session (ten bytes); what was under way or ready is dropped.
    void start(const char* session, std::int64_t midnight_ns) {
        for (std::size_t i = 0; i < session_.size(); ++i)
            session_[i].store(session[i], std::memory_order_relaxed);
        midnight_ns_.store(midnight_ns, std::memory_order_relaxed);
        wanted_.store(++started_, std::memory_order_release);
        wake();
    }
    // Of the load started last.
    Result result() const {
        const std::uint64_t word = result_.load(std::memory_order_acquire);
        return word >> 8 == started_ ? static_cast<Result>(word & 0xFF) : Result::none;
    }
    // While result() is ready and neither start() nor release() was called.
    std::uint64_t number() const { return image_->number(); }
    book::BookSet& books() { return image_->books(); }
    void release() {
        wanted_.store(0, std::memory_order_release);
        result_.store(0, std::memory_order_relaxed);
        wake();
    }

    // ---- any other thread

    // Why the last load failed, once.
    std::string take_failure() {
        const std::lock_guard lock(failure_lock_);
        return std::exchange(failure_, {});
    }

  private:
    static constexpr int longest_wait_ms = 100;  // a stop or a new start is seen after so long

    void wake() {
        wakes_.fetch_add(1, std::memory_order_release);
        wakes_.notify_one();
    }

    void run() {
        prctl(PR_SET_NAME, "fh-snapshot");
        std::uint64_t done = 0;
        for (;;) {
            const std::uint32_t wakes = wakes_.load(std::memory_order_acquire);
            if (stop_.load()) return;
            const std::uint64_t job = wanted_.load(std::memory_order_acquire);
            if (job == 0) image_.reset();
            if (job == 0 || job == done) {
                wakes_.wait(wakes, std::memory_order_acquire);
                continue;
            }
            done = job;
            image_.reset();
            std::string failure = load(job);
            if (wanted_.load() != job) continue;  // for nobody any more
            const auto result = failure.empty() ? Result::ready : Result::failed;
            if (!failure.empty()) {
                const std::lock_guard lock(failure_lock_);
                failure_ = std::move(failure);
            }
            result_.store(job << 8 | static_cast<std::uint64_t>(result), std::memory_order_release);
        }
    }

    bool dropped(std::uint64_t job) const { return stop_.load() || wanted_.load() != job; }

    // Returns what went wrong, or nothing: image_ is whole.
    std::string load(std::uint64_t job) {
        try {
            std::array<char, 10> session;
            for (std::size_t i = 0; i < session.size(); ++i) session[i] = session_[i].load();
            image_ = std::make_unique<Download>(settings_.username, settings_.password,
                                                std::string_view(session.data(), session.size()),
                                                settings_.limits, midnight_ns_.load(), now_ns());
            std::string failure = read(job);
            if (!failure.empty()) image_.reset();
            return failure;
        } catch (const std::exception& error) {  // no memory for the books
            image_.reset();
            return error.what();
        }
    }

    std::string read(std::uint64_t job) {
        const receive::Descriptor fd(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
        if (fd.get() < 0) return std::string("socket: ") + std::generic_category().message(errno);
        const int size = 8 << 20;
        setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
        const sockaddr_in address{
            AF_INET, htons(settings_.port), receive::parse_address(settings_.address), {}};
        if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 &&
            errno != EINPROGRESS)
            return std::string("connect: ") + std::generic_category().message(errno);
        const std::int64_t began_ns = now_ns();
        std::array<std::uint8_t, 1 << 16> buffer;
        while (!dropped(job)) {
            pollfd wait{fd.get(), static_cast<short>(image_->output().empty() ? POLLIN : POLLIN | POLLOUT),
                        0};
            ::poll(&wait, 1, longest_wait_ms);
            const std::int64_t time_ns = now_ns();
            if (time_ns - began_ns > settings_.timeout_ns) return "takes too long";
            if ((wait.revents & POLLOUT) != 0 || (wait.revents & POLLERR) != 0) {
                const ssize_t sent = send_output(fd.get());
                if (sent < 0 && errno != EAGAIN)
                    return std::string("send: ") + std::generic_category().message(errno);
                if (sent > 0) image_->sent(static_cast<std::size_t>(sent));
            }
            if ((wait.revents & (POLLIN | POLLHUP)) != 0) {
                const ssize_t got = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
                if (got == 0) return "cut: the server closed the connection before the end";
                if (got < 0 && errno != EAGAIN)
                    return std::string("receive: ") + std::generic_category().message(errno);
                if (got > 0)
                    image_->on_bytes(std::span(buffer).first(static_cast<std::size_t>(got)), time_ns);
            }
            image_->on_timer(time_ns);
            if (std::string failure = image_->failure(); !failure.empty()) return failure;
            if (image_->done()) {
                [[maybe_unused]] const ssize_t sent = send_output(fd.get());
                return {};
            }
        }
        return "dropped";
    }
    ssize_t send_output(int fd) const {
        return ::send(fd, image_->output().data(), image_->output().size(), MSG_NOSIGNAL);
    }
    static std::int64_t now_ns() { return receive::read_clock(CLOCK_MONOTONIC); }

    LoaderSettings settings_;
    std::uint64_t started_ = 0;  // receive thread only
    std::array<std::atomic<char>, 10> session_{};
    std::atomic<std::int64_t> midnight_ns_{0};
    std::atomic<std::uint64_t> wanted_{0};  // number of the load; 0: none, and the image may go
    std::atomic<std::uint64_t> result_{0};  // number << 8 | Result
    std::atomic<std::uint32_t> wakes_{0};
    std::atomic<bool> stop_{false};
    std::unique_ptr<Download> image_;  // the receive thread's while ready
    std::mutex failure_lock_;
    std::string failure_;
    std::thread thread_;
};

}  // namespace fh::snapshot
