from feedhandler.publish.message import Message
from feedhandler.publish.subscriber import ZmqSubscriber

__all__ = ["Message", "ZmqSubscriber"]
