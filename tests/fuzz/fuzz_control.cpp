// Any bytes as a datagram's control messages: nothing read out of bounds, no time that was not there. The
// first byte says how many bytes lie before the messages, so that they start at any alignment.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "receive/timestamping.hpp"

namespace {

void require(bool condition, const char* what) {
    if (condition) return;
    std::fprintf(stderr, "broken: %s\n", what);
    std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace fh;
    if (size == 0) return 0;
    const std::size_t before = std::min<std::size_t>(data[0] % 8, size - 1);
    // A copy of just this size: the sanitizer sees a read one byte further.
    const std::vector<std::uint8_t> control(data + 1 + before, data + size);
    const receive::ControlTimes times = receive::read_control(control);
    require(times.software_ns >= 0 && times.hardware_ns >= 0, "a time before 1970");
    Datagram datagram{};
    receive::set_receive_time(datagram, times);
    switch (datagram.timestamp_kind) {
        case TimestampKind::hardware:
            require(datagram.ts_recv_ns == times.hardware_ns && times.hardware_ns != 0, "hardware");
            break;
        case TimestampKind::kernel:
            require(datagram.ts_recv_ns == times.software_ns && times.software_ns != 0, "kernel");
            break;
        default:
            require(times.software_ns == 0 && times.hardware_ns == 0, "a time was there");
    }
    return 0;
}
