from distutils.core import setup

setup(name="relic", version="0.9", python_requires="<3")
