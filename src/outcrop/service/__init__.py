"""The network service: the only room that knows both halves, who may ask (trust) and what answers (models, inference).

``wire`` speaks the AWS protocols, ``pipeline`` is a request's path as one readable list, ``operations`` holds one
folder per API family. Nothing below may import this room.
"""
