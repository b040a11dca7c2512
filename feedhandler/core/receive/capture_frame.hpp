// One captured frame, whatever the file format.
#pragma once

#include <cstdint>

namespace fh::receive {

struct Frame {
    const std::uint8_t* data;  // into the file
    std::uint32_t length;      // bytes captured
    std::uint32_t
        original_length;  // bytes on the wire; more than `length` when the snap length cut the frame
    std::int64_t ts_ns;   // UTC
    std::uint32_t
        link_type;  // LINKTYPE_ value: 1 Ethernet, 101 raw IP, 113 Linux cooked, 276 Linux cooked v2
};

}  // namespace fh::receive
