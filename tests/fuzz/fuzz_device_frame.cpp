// Any bytes as a frame that a device brings: nothing read out of bounds, a datagram of a line or exactly one
// counter. The first byte says whether somebody has looked at the checksums.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "receive/device_lines.hpp"

namespace {

void require(bool condition, const char* what) {
    if (condition) return;
    std::fprintf(stderr, "broken: %s\n", what);
    std::abort();
}

fh::receive::LineTable three_lines() {
    fh::receive::LineTable out;
    const char* const texts[3][2] = {{"239.77.1.1", ""}, {"239.77.1.2", ""}, {"239.77.1.3", "198.18.0.1"}};
    std::uint16_t number = 0;
    for (const auto& [group, source] : texts) {
        fh::receive::LineSettings line{};
        line.group = group;
        line.source = source;
        line.port = 30001;
        out.add(number++, line);
    }
    return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace fh;
    static const receive::LineTable table = three_lines();
    if (size == 0) return 0;
    // A copy of just this size: the sanitizer sees a read one byte further.
    const std::vector<std::uint8_t> frame(data + 1, data + size);
    Datagram out{};
    ReceiveCounters counters;
    const bool intact = (data[0] & 1) != 0;
    const bool taken = table.take(frame.data(), frame.size(), intact, out, counters);
    const std::uint64_t counted = counters.other_traffic + counters.fragments + counters.tagged +
                                  counters.bad_frames + counters.bad_checksums;
    require(counted + (taken ? 1 : 0) == 1, "taken, or counted once");
    if (!taken) return 0;
    require(out.line < 3, "a line that there is");
    require(out.data >= frame.data() + 14 + 20 + 8 && out.data + out.length <= frame.data() + frame.size(),
            "a payload within the frame");
    require(frame[12] == 8 && frame[13] == 0 && frame[14 + 9] == 17, "UDP over IPv4");
    require(frame[14 + 16] == 239 && frame[14 + 17] == 77 && frame[14 + 19] == out.line + 1, "its group");
    return 0;
}
