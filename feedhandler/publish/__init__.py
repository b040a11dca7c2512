from feedhandler.publish.subscriber import Message, ZmqSubscriber

__all__ = ["Message", "ZmqSubscriber"]
