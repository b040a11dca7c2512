// The program that the driver runs on each frame: those of the lines go to our socket, everything else to
// the kernel.
#pragma once

#include <arpa/inet.h>
#include <linux/bpf.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "receive/device_lines.hpp"
#include "receive/xdp/assembler.hpp"
#include "receive/xdp/bpf.hpp"
#include "receive/xdp/kernel_functions.hpp"
#include "receive/xdp/refuse.hpp"

namespace fh::receive::xdp {

inline constexpr const char* program_name_here = "fh_lines";

// As it stands in the frame. A hash map compares all bytes of a key: there is no padding.
struct LineKey {
    std::uint32_t group;  // network order
    std::uint16_t port;   // network order
    std::uint16_t zero = 0;
};
static_assert(sizeof(LineKey) == 8);

// What the filter writes before a frame (XDP metadata).
struct FrameTimes {
    static constexpr std::int32_t written = 0x66687473;

    std::int64_t tai_ns = 0;     // CLOCK_TAI when the filter ran
    std::int64_t device_ns = 0;  // as the device's clock tells it; 0 = none
    std::int64_t mark = 0;       // `written`: by the filter; a driver may keep things of its own there
};
static_assert(sizeof(FrameTimes) == 24);

// Who is asked for times: nobody, the kernel, or the device's driver too, by its function of this number.
struct Stamps {
    bool kernel = false;
    std::int32_t device_function = 0;
};

namespace detail {

// Writes FrameTimes before the frame, where the driver leaves room; in r6 is the context.
inline void write_times(Assembler& code, const Stamps& stamps) {
    constexpr std::int32_t ktime_get_tai_ns = 208;  // Linux 6.1
    code.move(r1, r6);
    code.set(r2, -static_cast<std::int32_t>(sizeof(FrameTimes)));
    code.call(BPF_FUNC_xdp_adjust_meta);
    const std::size_t no_room = code.skip_if_not(r0, 0);
    code.load(BPF_W, r7, r6, offsetof(xdp_md, data_meta));
    code.load(BPF_W, r3, r6, offsetof(xdp_md, data));
    code.move(r4, r7);
    code.add(r4, sizeof(FrameTimes));
    const std::size_t never = code.skip_if_greater(r4, r3);  // but the kernel wants it said
    code.store_value(BPF_DW, r7, offsetof(FrameTimes, device_ns), 0);
    code.store_value(BPF_DW, r7, offsetof(FrameTimes, mark), FrameTimes::written);
    if (stamps.device_function != 0) {
        code.move(r1, r6);
        code.move(r2, r7);
        code.add(r2, offsetof(FrameTimes, device_ns));
        code.call_kernel(stamps.device_function);  // without a time it writes none
    }
    code.call(ktime_get_tai_ns);
    code.store(BPF_DW, r7, offsetof(FrameTimes, tai_ns), r0);
    code.land(no_room);
    code.land(never);
}

// `largest_frame`: what a buffer of ours holds; a larger one is the kernel's, which delivers it too.
inline std::vector<bpf_insn> assemble(int lines, int sockets, std::size_t largest_frame,
                                      const Stamps& stamps) {
    constexpr std::size_t ip = 14, udp = ip + 20, payload = udp + 8;
    Assembler code;
    code.move(r6, r1);  // calls destroy r1 to r5
    code.load(BPF_W, r2, r1, offsetof(xdp_md, data));
    code.load(BPF_W, r3, r1, offsetof(xdp_md, data_end));
    code.move(r4, r2);
    code.add(r4, payload);
    code.pass_if_greater(r4, r3);  // too short for the headers; from here on they may be read
    code.move(r4, r2);
    code.add(r4, static_cast<std::int32_t>(largest_frame));
    code.pass_if_greater(r3, r4);
    code.load(BPF_H, r4, r2, 12);         // all values are in network order
    code.pass_if_not(r4, htons(0x0800));  // not IPv4, or tagged
    code.load(BPF_B, r4, r2, ip);
    code.pass_if_not(r4, 0x45);  // options: the kernel knows them
    code.load(BPF_H, r4, r2, ip + 6);
    code.keep_bits(r4, htons(0x3FFF));
    code.pass_if_not(r4, 0);  // fragments: the kernel puts them together
    code.load(BPF_B, r4, r2, ip + 9);
    code.pass_if_not(r4, IPPROTO_UDP);
    code.load(BPF_W, r4, r2, ip + 16);
    code.store(BPF_W, frame_pointer, -8, r4);
    code.load(BPF_H, r4, r2, udp + 2);
    code.store(BPF_W, frame_pointer, -4, r4);  // the port, and zeros behind it: all of the key is written
    code.load_map(r1, lines);
    code.move(r2, frame_pointer);
    code.add(r2, -8);
    code.call(BPF_FUNC_map_lookup_elem);
    code.pass_if_equal(r0, 0);  // of no line
    if (stamps.kernel) write_times(code, stamps);
    code.load_map(r1, sockets);
    code.load(BPF_W, r2, r6, offsetof(xdp_md, rx_queue_index));
    code.set(r3, XDP_PASS);  // when there is no socket on the queue
    code.call(BPF_FUNC_redirect_map);
    code.leave();
    return std::move(code).finish();
}

}  // namespace detail

// The program and its maps, of one device; attached to nothing yet.
class Filter {
  public:
    Filter(const LineTable& lines, std::size_t largest_frame, unsigned queues, const std::string& what)
        : largest_frame_(largest_frame),
          lines_(create_map(BPF_MAP_TYPE_HASH, sizeof(LineKey), sizeof(std::uint32_t), max_lines)) {
        need(lines_.get() >= 0, what, "map of the lines");
        sockets_ = create_map(BPF_MAP_TYPE_XSKMAP, sizeof(std::uint32_t), sizeof(std::uint32_t), queues);
        need(sockets_.get() >= 0, what, "map of the sockets");
        for (const LineTable::Entry& line : lines.entries()) {
            const LineKey key{htonl(line.group), htons(line.port)};
            const std::uint32_t present = 1;
            need(set_in_map(lines_.get(), &key, &present), what, "map of the lines");
        }
        load_for_any_device(what);
    }

    void load_for_any_device(const std::string& what) {
        if (!load({.kernel = true, .device_function = 0}, 0)) load({}, 0);
        need(program_.get() >= 0, what, "loading the filter");
    }
    // One that asks the driver for its times too; it can be attached natively only. False: the kernel or the
    // driver cannot, and the program is the one that it was.
    bool load_for(unsigned device) {
        const std::int32_t function = kernel_function("bpf_xdp_metadata_rx_timestamp");
        return function != 0 && load({.kernel = true, .device_function = function}, device);
    }

    int program() const { return program_.get(); }
    const char* frame_times() const { return frame_times_; }  // "driver": it is asked, the kernel too
    // From now on the lines' frames of this queue go to the socket.
    bool redirect(std::uint32_t queue, int socket) { return set_in_map(sockets_.get(), &queue, &socket); }

  private:
    bool load(const Stamps& stamps, unsigned device) {
        const auto code = detail::assemble(lines_.get(), sockets_.get(), largest_frame_, stamps);
        Descriptor made = load_program(code, program_name_here, device);
        if (made.get() < 0) return false;
        program_ = std::move(made);
        frame_times_ = stamps.device_function != 0 ? "driver" : stamps.kernel ? "kernel" : "";
        return true;
    }

    std::size_t largest_frame_;
    Descriptor lines_;
    Descriptor sockets_;
    Descriptor program_;
    const char* frame_times_ = "";
};

}  // namespace fh::receive::xdp
