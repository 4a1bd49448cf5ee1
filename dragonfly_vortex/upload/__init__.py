"""
A parent's side of Dragonfly's gRPC API: :class:`~dragonfly_vortex.upload.service.UploadService`, a service of Twisted's
around an asynchronous server of grpcio's in a thread of its own.
"""
