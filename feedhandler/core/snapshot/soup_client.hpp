// The client of a SoupBinTCP 3.00 session that reads everything from number 1 on: bytes and time in, messages
// out. No socket, no clock.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "frame/byte_order.hpp"
#include "message.hpp"

namespace fh::snapshot {

class SoupClient {
  public:
    static constexpr std::int64_t heartbeat_ns = 1'000'000'000;
    static constexpr std::int64_t silence_ns = 15'000'000'000;

    // `session`: what the server must name when it accepts; padding on either side does not count.
    SoupClient(std::string_view username, std::string_view password, std::string_view session,
               std::int64_t now_ns)
        : session_(trimmed(session)), heard_ns_(now_ns), sent_ns_(now_ns) {
        std::string login(46, ' ');
        login.replace(0, 6, padded(username, 6));
        login.replace(6, 10, padded(password, 10));
        login.back() = '1';  // requested session blank: the current one; requested number 1
        put('L', login);
    }

    // To be sent; sent() takes off what was.
    std::span<const char> output() const { return {output_.data(), output_.size()}; }
    void sent(std::size_t bytes) { output_.erase(0, bytes); }

    // Why the session is over; empty: it is not.
    const std::string& failure() const { return failure_; }

    // on_message(Message) -> bool: false ends the session without a failure.
    template <class OnMessage>
    bool on_bytes(std::span<const std::uint8_t> bytes, std::int64_t now_ns, OnMessage&& on_message) {
        heard_ns_ = now_ns;
        buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
        std::size_t at = 0;
        bool more = true;
        while (more && failure_.empty() && buffer_.size() - at >= 2) {
            const std::uint16_t length = frame::load_be16(&buffer_[at]);
            if (length == 0) {
                fail("protocol error: a packet of length 0");
                break;
            }
            if (buffer_.size() - at < 2u + length) break;
            more = on_packet(&buffer_[at + 2], static_cast<std::uint16_t>(length - 1), on_message);
            at += 2u + length;
        }
        buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(at));
        return more && failure_.empty();
    }

    void on_timer(std::int64_t now_ns) {
        if (now_ns - heard_ns_ >= silence_ns) return fail("the server is silent");
        if (now_ns - sent_ns_ < heartbeat_ns) return;
        sent_ns_ = now_ns;
        if (accepted_) put('R', {});
    }
    void log_out() { put('O', {}); }

  private:
    template <class OnMessage>
    bool on_packet(const std::uint8_t* p, std::uint16_t payload, OnMessage& on_message) {
        switch (p[0]) {
            case '+':
            case 'H':
            case 'U':
                return true;
            case 'S':
                if (!accepted_) break;
                return on_message(Message{p + 1, payload});
            case 'A':
                if (accepted_ || payload != 30) break;
                return accept({reinterpret_cast<const char*>(p + 1), payload});
            case 'J':
                return stop("login refused: " +
                            shown({reinterpret_cast<const char*>(p + 1), std::min<std::size_t>(payload, 1)}));
            case 'Z':
                return stop("the server ended the session");
            default:
                break;
        }
        return stop("protocol error: unexpected packet of type " + std::to_string(p[0]));
    }

    bool accept(std::string_view payload) {
        if (const auto session = trimmed(payload.substr(0, 10)); session != session_)
            return stop("session \"" + shown(session) + "\", the feed's is \"" + shown(session_) + "\"");
        std::string_view number = trimmed(payload.substr(10));
        while (number.size() > 1 && number.front() == '0') number.remove_prefix(1);
        if (number != "1") return stop("begins at number " + shown(number) + ", not at 1");
        return accepted_ = true;
    }
    bool stop(std::string why) {
        fail(std::move(why));
        return false;
    }
    void fail(std::string why) { failure_ = std::move(why); }

    void put(char type, std::string_view payload) {
        output_ += static_cast<char>((payload.size() + 1) >> 8);
        output_ += static_cast<char>(payload.size() + 1);
        output_ += type;
        output_ += payload;
    }
    static std::string padded(std::string_view text, std::size_t size) {
        std::string out(text.substr(0, size));
        out.resize(size, ' ');
        return out;
    }
    // What a peer sent, in a line for people: it may be no text at all.
    static std::string shown(std::string_view text) {
        std::string out(text);
        std::ranges::replace_if(
            out, [](char c) { return c < ' ' || c > '~'; }, '?');
        return out;
    }
    static std::string_view trimmed(std::string_view text) {
        while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
        while (!text.empty() && (text.back() == ' ' || text.back() == '\0')) text.remove_suffix(1);
        return text;
    }

    std::string session_;
    std::string output_;
    std::vector<std::uint8_t> buffer_;
    std::string failure_;
    bool accepted_ = false;
    std::int64_t heard_ns_;
    std::int64_t sent_ns_;
};

}  // namespace fh::snapshot
