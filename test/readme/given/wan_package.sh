# A package of the tiny pipeline.
.venv/bin/python examples/diffusers/calibrate_wan.py --out out/given-wan
cp out/given-wan/wan.calibatt model.calibatt
