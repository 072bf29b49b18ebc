"""A page's words, as the search shows them."""

from tools.compass_search import words

PAGE = """<html><body><nav><a>Contents</a></nav><article class="bd-article">
<section id="a-title"><h1>A title<a class="headerlink" href="#a-title">#</a></h1>
<p>Cross-<b>entropy</b> is
one number.</p><script>let x = 1;</script><svg><text>0.5</text></svg><!-- unseen -->
<section id="part"><h2>A part</h2><ul><li>one</li><li>two</li></ul></section>
</section></article></body></html>"""


def test_the_words_are_those_that_are_read_in_pieces_that_begin_at_an_id():
    assert words(PAGE) == [
        ("", ""),
        ("a-title", "A title Cross-entropy is one number."),
        ("part", "A part one two"),
    ]


def test_a_page_without_an_article_has_no_words():
    assert words("<html><body><p>Text</p></body></html>") == []
