// One snapshot on its way: the session and the books it builds. Bytes and time in; whole books, or the reason
// why there are none. No socket, no clock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "book/book_set.hpp"
#include "snapshot/image_reader.hpp"
#include "snapshot/soup_client.hpp"

namespace fh::snapshot {

class Download {
  public:
    // `session`: the feed's, blanks cut. Times are ns of any clock that does not go back.
    Download(std::string_view username, std::string_view password, std::string_view session,
             const book::BookLimits& limits, std::int64_t midnight_ns, std::int64_t now_ns)
        : client_(username, password, session, now_ns), image_(limits, midnight_ns) {}

    // To be sent; sent() takes off what was.
    std::span<const char> output() const { return client_.output(); }
    void sent(std::size_t bytes) { client_.sent(bytes); }

    void on_bytes(std::span<const std::uint8_t> bytes, std::int64_t now_ns) {
        client_.on_bytes(bytes, now_ns, [&](const Message& message) {
            result_ = image_.on_message(message);
            return result_ == ImageReader::Result::more;
        });
        if (done()) client_.log_out();  // good manners: the server closes anyway
    }
    void on_timer(std::int64_t now_ns) { client_.on_timer(now_ns); }

    // Over, one way or the other.
    bool done() const { return failure().empty() && result_ == ImageReader::Result::done; }
    std::string failure() const {
        if (!client_.failure().empty()) return client_.failure();
        return result_ == ImageReader::Result::bad ? "contradicts itself, or is no snapshot" : "";
    }

    // Once done: the number that G told, and the books of everything before.
    std::uint64_t number() const { return image_.number(); }
    book::BookSet& books() { return image_.books(); }

  private:
    SoupClient client_;
    ImageReader image_;
    ImageReader::Result result_ = ImageReader::Result::more;
};

}  // namespace fh::snapshot
