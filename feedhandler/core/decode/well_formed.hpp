// Whether messages can be messages at all.
#pragma once

#include <span>

#include "decode/types.hpp"
#include "message.hpp"

namespace fh::decode {

// Each has the length of its type. Types that ITCH 5.0 does not have are no messages, unless `new_types`.
inline bool well_formed(std::span<const Message> messages, bool new_types) {
    for (const Message& message : messages) {
        if (message.length == 0) return false;
        const std::uint8_t length = length_of_type[message.data[0]];
        if (length == 0 ? !new_types : length != message.length) return false;
    }
    return true;
}

}  // namespace fh::decode
