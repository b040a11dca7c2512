// The DPDK plugin: a shared object of its own, so that nothing else has to know DPDK. See plugin_abi.hpp.
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "receive/dpdk/library_output.hpp"
#include "receive/dpdk/plugin_abi.hpp"
#include "receive/dpdk/port.hpp"

namespace {

using namespace fh::dpdk_plugin;

// Once a process. On a thread of its own: the EAL pins its caller.
void start_eal(const fh_dpdk_settings& settings) {
    static bool started = false;
    if (started) return;
    static constexpr cookie_io_functions_t functions{nullptr, write_log, nullptr, nullptr};
    FILE* const stream = fopencookie(nullptr, "w", functions);
    if (stream != nullptr) rte_openlog_stream(stream);
    std::vector<std::string> words(settings.arguments, settings.arguments + settings.argument_count);
    std::vector<char*> arguments{const_cast<char*>("feedhandler")};
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    int error = 0;
    std::thread([&] {
        if (rte_eal_init(static_cast<int>(arguments.size()) - 1, arguments.data()) < 0) error = rte_errno;
    }).join();
    if (error != 0) {
        std::string words_text;
        for (const char* word : arguments)
            if (word != nullptr && word != arguments.front()) words_text += std::string(" ") + word;
        fail("the EAL does not start with" + words_text, error);
    }
    started = true;
}

using Ports = std::vector<std::unique_ptr<Port>>;

// Those open, for an exit that forgets to close them.
std::vector<Ports*>& open_ports() {
    static std::vector<Ports*> all;
    return all;
}

void close(void* handle) {
    const QuietTerminal quiet;
    std::erase(open_ports(), static_cast<Ports*>(handle));
    delete static_cast<Ports*>(handle);
}

void close_all() {
    while (!open_ports().empty()) close(open_ports().back());
}

void* open(const fh_dpdk_settings* settings, char* error, std::size_t error_size) {
    const std::string before = log_of_process().take();
    std::string what;
    auto ports = std::make_unique<Ports>();
    try {
        const QuietTerminal quiet;
        start_eal(*settings);
        for (std::uint32_t i = 0; i < settings->port_count; ++i) {
            what = std::string(settings->ports[i].device) + ": ";
            ports->push_back(std::make_unique<Port>(settings->ports[i],
                                                    static_cast<std::uint16_t>(settings->rx_descriptors)));
        }
        open_ports().push_back(ports.get());
        // After the list is made: it is destroyed after.
        static const int registered = std::atexit(close_all);
        static_cast<void>(registered);
        return ports.release();
    } catch (const std::exception& failure) {
        what += failure.what();
    }
    {
        const QuietTerminal quiet;
        ports.reset();
    }
    if (const std::string reason = reason_in(log_of_process().take()); !reason.empty())
        what += " (" + reason + ")";
    std::snprintf(error, error_size, "%s", what.c_str());
    return nullptr;
}

std::size_t poll(void* handle, std::uint32_t port, fh_dpdk_frame* out, std::size_t most) {
    return (*static_cast<Ports*>(handle))[port]->poll(out, most);
}

void stats(void* handle, std::uint32_t port, fh_dpdk_stats* out) {
    *out = {};
    (*static_cast<Ports*>(handle))[port]->stats(*out);
}

std::size_t take_log(void* /*handle*/, char* out, std::size_t size) {
    const std::string text = log_of_process().take();
    return text.copy(out, size);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const fh_dpdk_api* fh_dpdk_plugin() {
    static constexpr fh_dpdk_api api{
        sizeof(fh_dpdk_api), fh_dpdk_version, open, poll, stats, take_log, close,
    };
    return &api;
}
