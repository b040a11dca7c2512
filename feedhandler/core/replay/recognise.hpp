// What a file is, by its content.
#pragma once

#include <algorithm>
#include <string_view>

#include "decode/types.hpp"
#include "receive/capture.hpp"
#include "receive/file_binary.hpp"

namespace fh::replay {

// BinaryFILE has no magic number, so its first records must make sense: of a known type with the length of
// that type, among others of unknown types if they are short and start with a letter or digit. Length fields
// of zero in front of data (files of broken writers) are refused, an empty session is not.
inline bool looks_like_binary_file(receive::FileBytes file) {
    constexpr int records = 64;
    constexpr std::uint16_t longest_unknown = 255;
    receive::BinaryFileReader reader(file);
    Message message;
    bool known = false;
    for (int i = 0; i < records && reader.next(message); ++i) {
        const auto first = static_cast<char>(message.data[0]);
        const bool letter = (first >= 'A' && first <= 'Z') || (first >= 'a' && first <= 'z') ||
                            (first >= '0' && first <= '9');
        const auto length = decode::length_of_type[message.data[0]];
        if (length == message.length) {
            if (i == 0) return true;
            known = true;
        } else if (!letter || message.length > longest_unknown) {
            return false;
        }
    }
    if (known) return true;
    if (reader.end() == receive::FileEnd::whole) return reader.trailing() == 0;  // all of it was seen
    // Cut inside the first record: its type and length are all there is.
    return reader.end() == receive::FileEnd::truncated && reader.offset() == 0 && file.size() > 2 &&
           decode::length_of_type[file[2]] == receive::load<std::uint16_t>(file, 0, true) &&
           decode::length_of_type[file[2]] != 0;
}

// "capture", "binary", or "" for anything else.
inline std::string_view recognise(receive::FileBytes file) {
    if (receive::Capture::recognises(file)) return "capture";
    return looks_like_binary_file(file) ? "binary" : "";
}

}  // namespace fh::replay
