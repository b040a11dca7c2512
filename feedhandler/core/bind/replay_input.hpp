// A file in memory as input of a replay, for the bindings.
#pragma once

#include <Python.h>
#include <arpa/inet.h>
#include <nanobind/nanobind.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "replay/input_binary.hpp"
#include "replay/input_capture.hpp"
#include "replay/scan.hpp"

namespace fh::bind {

namespace nb = nanobind;

// The memory of any object with the buffer protocol, for as long as this lives.
class Buffer {
  public:
    explicit Buffer(const nb::object& object) {
        if (PyObject_GetBuffer(object.ptr(), &view_, PyBUF_SIMPLE) != 0) throw nb::python_error();
    }
    ~Buffer() { PyBuffer_Release(&view_); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    receive::FileBytes bytes() const {
        return {static_cast<const std::uint8_t*>(view_.buf), static_cast<std::size_t>(view_.len)};
    }

  private:
    Py_buffer view_;
};

using GroupText = std::pair<std::string, std::uint16_t>;

inline std::string to_text(std::uint32_t address) {
    char text[INET_ADDRSTRLEN];
    const in_addr network{htonl(address)};
    return inet_ntop(AF_INET, &network, text, sizeof text);
}

inline replay::Group to_group(const GroupText& text) {
    in_addr network;
    if (inet_pton(AF_INET, text.first.c_str(), &network) != 1) throw nb::value_error("not an IPv4 address");
    return {ntohl(network.s_addr), text.second};
}

// Lets Ctrl-C through between two stretches of a long loop.
template <class Step>
void run_interruptibly(Step step) {
    for (;;) {
        bool more;
        {
            nb::gil_scoped_release unlocked;
            more = step();
        }
        if (!more) return;
        if (PyErr_CheckSignals() != 0) throw nb::python_error();
    }
}

inline constexpr std::uint64_t packets_at_once = 200'000;

// A capture with its groups, or a BinaryFILE; scan() reads it once.
class ReplayInput {
  public:
    ReplayInput(const nb::object& data, bool binary, const std::vector<GroupText>& groups,
                replay::Period period = {})
        : buffer_(data), is_binary_(binary), copy_to_all_(binary || groups.size() == 1) {
        if (binary) return;
        std::vector<replay::Group> parsed;
        for (const GroupText& text : groups) parsed.push_back(to_group(text));
        capture_ = std::make_unique<replay::CaptureInput>(buffer_.bytes(), std::move(parsed), period);
    }

    // `midnights`: of the trading day of a BinaryFILE; of all days of a capture, which tells its own time.
    void scan(const replay::Midnights& midnights) {
        if (midnights.empty()) throw nb::value_error("midnights: at least one is needed");
        if (is_binary_) binary_ = std::make_unique<replay::BinaryInput>(buffer_.bytes(), midnights[0]);
        replay::Scanner scanner(input(), midnights);
        run_interruptibly([&] { return scanner.step(packets_at_once); });
        scan_ = scanner.finish();
        if (is_binary_ && scan_.sessions.empty()) {
            scan_.sessions.push_back(replay::BinaryInput::empty_session());
        }
    }

    replay::Input& input() {
        if (capture_) return *capture_;
        if (!binary_) throw std::runtime_error("scan() comes first");
        return *binary_;
    }
    const replay::Scan& scanned() const { return scan_; }
    bool is_binary() const { return is_binary_; }
    bool copy_to_all() const { return copy_to_all_; }  // every packet on each line, else each on its own

    nb::list sessions() const {
        nb::list out;
        for (const auto& session : scan_.sessions) {
            out.append(nb::make_tuple(nb::bytes(session.name.data(), session.name.size()), session.first,
                                      session.end));
        }
        return out;
    }

    nb::dict input_end() const {
        constexpr const char* names[] = {"none", "whole", "truncated", "broken"};
        const auto& end = scan_.input_end;
        nb::dict out;
        out["end"] = names[static_cast<std::size_t>(end.end)];
        out["offset"] = end.offset;
        out["trailing"] = end.trailing;
        out["cut"] = end.cut;
        out["fragments"] = end.fragments;
        return out;
    }

  private:
    Buffer buffer_;
    bool is_binary_;
    bool copy_to_all_;
    std::unique_ptr<replay::BinaryInput> binary_;
    std::unique_ptr<replay::CaptureInput> capture_;
    replay::Scan scan_;
};

}  // namespace fh::bind
