"""What a user subclasses: the module, the data module, the callback, and what `self.log` keeps."""
