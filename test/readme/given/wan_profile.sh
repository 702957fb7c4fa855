# Large enough for four shards of whole layers.
calibatt profile synth --preset wan2.1-14b-480p --layers 4 --heads 1 --steps 1 -o wan.calib.safetensors
