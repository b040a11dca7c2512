// Multicast lines through Onload, the accelerated sockets of Solarflare cards: plain sockets that a library
// under this process takes over. Whether it did is asked for each of them, and by default insisted on.
#pragma once

#include <cstdlib>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "receive/first_turn.hpp"
#include "receive/multicast.hpp"
#include "receive/onload_interface.hpp"
#include "receive/onload_receiver.hpp"
#include "receive/source.hpp"

namespace fh::receive {

struct OnloadSettings {
    bool require = true;     // refuse to run by the kernel
    std::string stack;       // name of the Onload stack; "" = as Onload does it
    bool zero_copy = false;  // onload_zc_recv
};

// Why a line that is bound and has joined is not accelerated.
inline std::string why_not_accelerated(const onload::Library& library) {
    if (!library.present()) return "Onload is not in this process: it was not started under `onload`";
    const Descriptor fresh(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!library.accelerates(fresh.get()))
        return "Onload is there but accelerates no socket: "
               "is its kernel module loaded, and may this user open /dev/onload?";
    return "Onload left its socket to the kernel when it was bound or joined: "
           "is its interface one that Onload accelerates?";
}

class OnloadSource {
  public:
    OnloadSource(std::span<const LineSettings> lines, const OnloadSettings& settings, bool spin)
        : first_turn_(lines.size()), spin_(spin) {
        set_up_stack(settings.stack);
        receivers_.reserve(lines.size());
        for (const LineSettings& line : lines) {
            const auto index = static_cast<std::uint16_t>(receivers_.size());
            UdpReceiver socket = open_line(line, index, spin);
            // Onload takes every sender of a group that was joined for one.
            if (!line.source.empty()) socket.take_only_from(parse_address(line.source));
            receivers_.emplace_back(std::move(socket), index, *onload_, settings.zero_copy);
            if (settings.require && !receivers_.back().accelerated()) refuse(line);
            fds_.push_back(receivers_.back().fd());
        }
    }

    std::size_t poll(std::span<Datagram> out) {
        if (!first_turn_.over()) [[unlikely]] {
            set_up_thread();
            return first_turn_.poll(out, [this](std::size_t receiver, std::span<Datagram> rest) {
                return receivers_[receiver].receive(rest, counters_);
            });
        }
        std::size_t count = 0;
        for (OnloadReceiver& receiver : receivers_) count += receiver.receive(out.subspan(count), counters_);
        return count;
    }

    std::span<const int> fds() const { return fds_; }
    std::size_t line_count() const { return receivers_.size(); }
    SourceStats stats(std::size_t line) const { return receivers_[line].stats(); }
    const ReceiveCounters& counters() const { return counters_; }
    void refresh_stats() {
        for (OnloadReceiver& receiver : receivers_) receiver.refresh_stats();
    }

  private:
    [[noreturn]] void refuse(const LineSettings& line) const {
        const std::string what =
            "line " + line.name + ": not accelerated, and receive.onload.require is true: ";
        throw std::runtime_error(what + why_not_accelerated(*onload_));
    }

    // For the stacks that are made from now on.
    void set_up_stack(const std::string& name) {
        if (!onload_->present()) return;
        // Else a socket that joins by a device that is not accelerated stays Onload's, and says it is
        // accelerated; and a group's packets that come by another line's device are this line's too.
        for (const char* option : {"EF_MCAST_JOIN_HANDOVER", "EF_MCAST_JOIN_BINDTODEVICE"})
            // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody sets variables
            if (std::getenv(option) == nullptr && onload_->stack_opt_set_int != nullptr)
                onload_->stack_opt_set_int(option, 1);
        // Stays set: the sockets of re-requests, made next, are read by the same thread.
        if (!name.empty() && onload_->set_stackname != nullptr)
            require(onload_->set_stackname(onload::this_thread, onload::scope_process, name.c_str()) == 0,
                    "receive.onload.stack: \"" + name + '"');
    }

    // Spinning is a matter of the thread that waits. With `spin` the loop never waits; without it, it means
    // to sleep, whatever the profile says of all threads.
    void set_up_thread() {
        if (thread_is_set_up_) return;
        thread_is_set_up_ = true;
        if (!onload_->present() || onload_->thread_set_spin == nullptr) return;
        onload_->thread_set_spin(spin_ ? onload::spin_udp_recv : onload::spin_all, spin_ ? 1 : 0);
    }

    std::unique_ptr<const onload::Library> onload_ = std::make_unique<const onload::Library>();
    FirstTurn first_turn_;
    bool spin_;
    bool thread_is_set_up_ = false;
    std::vector<OnloadReceiver> receivers_;
    std::vector<int> fds_;
    ReceiveCounters counters_;
};
static_assert(Source<OnloadSource>);

}  // namespace fh::receive
